// Who gets connections: roles and weight, promotion, retirement and the way back, and what becomes
// of a deployment whose driver has gone.
#include "agent/base/failpoints.hpp"
#include "agent/service/supervisor.hpp"

namespace updagent::service {
namespace {

using base::Json;
using base::Result;
using base::Status;

}  // namespace

Status Supervisor::apply_roles(std::uint16_t weight, std::uint64_t expires_ns) {
  const auto slot_of = [this](std::uint64_t number) {
    const Generation* generation = find(number);
    return generation == nullptr ? listen::Slot(listen::kNoSlot) : generation->slot();
  };
  if (policy_) {
    if (expires_ns == 0) weight = 0;  // without an end it would hold for ever
    listen::Roles roles;
    roles.active = slot_of(active_);
    roles.candidate = deployment_ ? slot_of(deployment_->candidate) : listen::Slot(listen::kNoSlot);
    roles.standby = slot_of(standby_);
    roles.weight = weight;
    if (const Generation* next = candidate();
        next != nullptr && next->plan().run.affinity == release::Affinity::client)
      roles.affinity = listen::Affinity::client;
    UPD_TRY(policy_->set(roles, weight == 0 ? 0 : expires_ns));
    give_traffic_roles(weight == listen::kWeightAll);
  }
  // names of unix paths know nothing between 0 and 100 %
  const Generation* named = weight == listen::kWeightAll ? candidate() : active();
  if (named == nullptr) named = active();
  return named == nullptr ? base::ok() : listeners_->publish(*named);
}

// Users are the active one's alone.
void Supervisor::steer_back() {
  goes_on(apply_roles(0, 0));
}

// The generation that is committed knows whether users come to it. (The candidate stays one until
// it is committed, whatever its share.)
void Supervisor::give_traffic_roles(bool candidate_has_all) {
  Generation* serves = active();
  if (serves == nullptr || (deployment_ && deployment_->candidate == active_)) return;
  const Role role = candidate_has_all ? Role::standby : Role::active;
  if (serves->role() != role && serves->role() != Role::draining) serves->set_role(role);
}

void Supervisor::withdraw_weight() {
  deployment_->weight = 0;
  deployment_->lease_timer.reset();
  steer_back();
}

void Supervisor::lease_expired() {
  if (!deployment_ || deployment_->weight == 0) return;
  deployment_->lease_lost = true;
  withdraw_weight();  // users first
  event("traffic.lease_lost", "failure", candidate(), {{"epoch", deployment_->epoch}});
  if (deployment_->driver != 0)
    control_->tell(deployment_->driver, {{"news", "lease_lost"}, {"epoch", deployment_->epoch}});
  save_state();
}

void Supervisor::promote_candidate() {
  Generation* next = candidate();
  if (next == nullptr) return;
  if (next->number() == active_) {  // strategy restart: it has the traffic since its start
    next->set_role(Role::active);
    deployment_->candidate = 0;
    deployment_->old_run.reset();
    if (deployment_->automatic) deployment_.reset();
    workers_->switch_to(next->plan().run);
    return save_state();
  }
  const std::uint64_t before = active_;
  active_ = next->number();
  standby_ = next->plan().run.standby == release::Standby::cold ? 0 : before;
  next->set_role(Role::active);
  deployment_->candidate = 0;
  deployment_->weight = 0;
  deployment_->lease_timer.reset();
  steer_back();
  base::failpoint::hit("service.promoted");
  event("traffic.promoted", "success", next, {{"before", before}});
  if (deployment_->automatic) deployment_.reset();
  workers_->switch_to(next->plan().run);
  save_state();
  if (before != 0) retire(before, false);
}

// The end of a generation that gets no new connections any more.
void Supervisor::retire(std::uint64_t number, bool immediately) {
  Generation* generation = find(number);
  if (generation == nullptr || generation->life() == Life::gone || drains_.contains(number)) return;
  timers_.erase(number);
  checks_.erase(number);
  if (generation->role() == Role::active || generation->role() == Role::standby)
    if (deployment_) generation->set_trace(deployment_->trace_id);
  if (generation->role() != Role::draining) generation->set_role(Role::draining);
  if (immediately || generation->life() != Life::ready) {
    generation->stop(immediately);
    return save_state();  // a successor must not tell it again
  }
  // It would go on getting connections: only its own graceful stop ends that, and then it has the
  // time of both.
  if (listeners_->shares(*generation)) {
    generation->stop(false, generation->plan().run.service.drain_timeout);
    return save_state();
  }
  generation->begin_drain();
  save_state();  // a successor gives it what is left of its time
  drains_[number] = std::make_unique<Drain>(
      *loop_, *listeners_, *generation,
      [this, number](const Result<std::size_t>& busy) { stop_drained(number, busy); });
  base::failpoint::hit("service.drain_begun");
}

void Supervisor::stop_drained(std::uint64_t number, const Result<std::size_t>& busy) {
  // called by the drain itself: it ends with the next turn
  timers_[number] = loop_->after(base::Milliseconds(0), [this, number, busy] {
    drains_.erase(number);
    Generation* generation = find(number);
    if (generation == nullptr) return;
    Json detail = busy ? Json{{"busy", *busy}} : Json{{"problem", busy.error().line()}};
    event("traffic.drained", busy && *busy == 0 ? "success" : "failure", generation,
          std::move(detail));
    generation->stop(false);
    base::failpoint::hit("service.stop_sent");
    save_state();
  });
}

void Supervisor::give_up_candidate(const std::string& why) {
  Generation* generation = candidate();
  if (!deployment_) return;
  const std::uint64_t number = deployment_->candidate;
  if (number != 0 && number == active_ && deployment_->old_run) {
    const Status back = bring_old_back(why);
    if (!back) event("supervisor.problem", "failure", nullptr, {{"problem", back.error().line()}});
    if (deployment_->automatic) deployment_.reset();
    return save_state();
  }
  deployment_->candidate = 0;
  deployment_->weight = 0;
  deployment_->lease_timer.reset();
  steer_back();
  if (deployment_->automatic) deployment_.reset();
  if (generation == nullptr) return save_state();
  base::failpoint::hit("service.withdrawn");
  event("traffic.withdrawn", "success", generation, {{"reason", why}});
  save_state();
  if (generation->life() != Life::ready) return retire(number, true);
  retire_withdrawn(number);
}

// What waits in the queue of one that hangs goes to the active one at once.
void Supervisor::retire_withdrawn(std::uint64_t number) {
  timers_[number] = loop_->after(kPromptMigration, [this, number] {
    Generation* found = find(number);
    if (found == nullptr) return;
    if (listeners_->waiting(*found) > 0) listeners_->retire(*found);
    timers_.erase(number);
    retire(number, false);
  });
}

// --- drivers that go

void Supervisor::driver_gone(ConnectionId connection) {
  if (!deployment_ || deployment_->driver != connection) return;
  deployment_->driver = 0;
  if (deployment_->candidate != 0) {
    deployment_->weight = 0;
    steer_back();
    event("traffic.driver_gone", "failure", candidate(), {{"epoch", deployment_->epoch}});
  }
  expect_driver();
  save_state();
}

void Supervisor::expect_driver() {
  deployment_->orphan_timer = loop_->after(setup_.orphan_patience, [this] { orphaned(); });
}

// Nobody came to end it: the link says what was decided. What it means for links and journal is a
// driver's business; one that is only stopped still has its lock, and ends it when it goes on.
void Supervisor::orphaned() {
  if (!deployment_ || deployment_->driver != 0) return;
  end_by_link("its driver died, and nobody ended the deployment");
  deployment_.reset();
  save_state();
  if (!setup_.recover_command.empty()) start_command(setup_.recover_command);
}

void Supervisor::end_by_link(const std::string& why) {
  const Generation* generation = candidate();
  if (generation == nullptr || committed_version() != generation->version())
    return give_up_candidate(why);
  promote_candidate();
  if (const Generation* now = active(); now != nullptr && now->life() == Life::down)
    restart_later(now->number());
}

}  // namespace updagent::service
