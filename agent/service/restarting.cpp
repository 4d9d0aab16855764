// Strategy restart: the old one goes before the new one comes, and the other way round on the way
// back. What must not run twice never does: a generation waits for those that it replaces.
#include "agent/service/supervisor.hpp"

namespace updagent::service {

using base::Status;

// From now on connections wait in the new one's queue.
Status Supervisor::replace_in_place(Generation& next, Generation& before) {
  active_ = next.number();
  if (Status given = apply_roles(0, 0); !given) {
    active_ = before.number();
    steer_back();
    return given;
  }
  deployment_->old_run = before.plan().run;
  waiting_ = next.number();
  waits_for_ = {before.number()};
  workers_->stop_all();
  save_state();
  // No drain: users wait for every moment of it. What is in flight its own graceful stop ends.
  drains_.erase(before.number());
  before.set_trace(deployment_->trace_id);
  before.set_role(Role::draining);
  before.stop(false);
  save_state();  // a successor must not tell it again
  return base::ok();
}

// A fresh generation of what ran before; its sockets take the connections at once.
Status Supervisor::bring_old_back(const std::string& why) {
  UPD_ASSIGN(Generation * again, make_generation(*deployment_->old_run));
  deployment_->old_run.reset();
  const std::uint64_t failed = std::exchange(deployment_->candidate, 0);
  active_ = again->number();
  again->set_role(Role::active);
  Status given = apply_roles(0, 0);
  event("traffic.withdrawn", "success", find(failed), {{"reason", why}});
  waiting_ = again->number();
  waits_for_.insert(failed);  // and for the old one, where that is still stopping
  workers_->keep(again->plan().run);
  save_state();
  timers_.erase(failed);
  checks_.erase(failed);
  if (Generation* generation = find(failed)) {
    generation->set_role(Role::draining);
    generation->stop(generation->life() != Life::ready);
  }
  start_waiting();
  return given;
}

void Supervisor::start_waiting() {
  if (waiting_ == 0) return;
  for (const std::uint64_t number : waits_for_)
    if (find(number) != nullptr) return;
  waits_for_.clear();
  Generation* next = find(std::exchange(waiting_, 0));
  if (next == nullptr) return;
  const Status started = start_generation(*next);
  if (started) return;
  if (deployment_ && deployment_->candidate == next->number())
    return on_failed(*next, started.error());
  last_problem_ = started.error().line();
  restart_later(next->number());
}

}  // namespace updagent::service
