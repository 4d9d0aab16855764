// The lives of generations: made, started, ready, failed, started again, gone. What users get of
// them is traffic.cpp's.
#include <syslog.h>

#include <algorithm>

#include "agent/base/child_process.hpp"
#include "agent/base/detached_process.hpp"
#include "agent/base/failpoints.hpp"
#include "agent/base/text.hpp"
#include "agent/launch/memory_check.hpp"
#include "agent/launch/output.hpp"
#include "agent/service/supervisor.hpp"

namespace updagent::service {
namespace {

using base::Code;
using base::Error;
using base::Json;
using base::Result;
using base::Status;

constexpr std::size_t kMaxLastWords = 300;  // of a line that stands in a line of ours

// The last line of a failed service's output, for the one line that an operator reads first; and
// what to do about the commonest reason.
std::string last_words(std::string_view output) {
  const std::size_t end = output.find_last_not_of(" \n");
  if (end == std::string_view::npos) return "";
  std::string_view line = output.substr(0, end + 1);
  const std::size_t begin = line.rfind('\n');
  if (begin != std::string_view::npos) line.remove_prefix(begin + 1);
  std::string text = "; its last words: " + base::to_valid_utf8(line.substr(0, kMaxLastWords));
  for (const std::string_view taken : {"ddress already in use", "EADDRINUSE"})
    if (output.find(taken) != std::string_view::npos)
      return text +
             " (it opens its address itself: it must use the socket that it is given, nginx "
             "'listen' without 'reuseport', or its protocol is 'inject')";
  return text;
}

}  // namespace

Status Supervisor::check_room(const Generation* active, std::uint64_t reserve) const {
  if (active == nullptr || active->main_pid() == 0) return base::ok();
  const auto at_hand = launch::memory_at_hand();
  if (!at_hand) return base::ok();  // a kernel that doesn't tell refuses nobody
  launch::MemoryInUse in_use = launch::memory_in_use(active->cgroup(), active->processes());
  in_use.bytes += reserve;
  return launch::check_memory(*at_hand, in_use);
}

Result<Generation*> Supervisor::make_generation(release::ResolvedService run) {
  GenerationPlan plan;
  plan.slot = free_slot();
  if (plan.slot == listen::kNoSlot)
    return Error(Code::busy, "as many generations live as there can be")
        .expected("at most " + std::to_string(listen::kMaxSlots))
        .hint("wait until old ones have drained, or end the oldest");
  plan.number = next_number_++;
  UPD_ASSIGN(plan.sockets, listeners_->open(run, plan.number, plan.slot));
  base::failpoint::hit("service.opened");
  plan.run = std::move(run);
  const std::uint64_t number = plan.number;
  auto made = std::make_unique<Generation>(*loop_, setup_.places, cgroups_ ? &*cgroups_ : nullptr,
                                           std::move(plan), generation_events());
  Generation* generation = made.get();
  if (deployment_) generation->set_trace(deployment_->trace_id);
  generations_.emplace(number, std::move(made));
  hold(*generation);
  base::failpoint::hit("service.held");
  return generation;
}

void Supervisor::listen_anew(Generation& generation) {
  const auto listens = listeners_->listen_again(generation);
  if (!listens) goes_on(listens.error());
  const auto opened = listeners_->open_again(generation);
  if (!opened) goes_on(opened.error());
  if (!opened || !*opened) return;
  hold(generation);
  if (generation.number() == active_) goes_on(listeners_->publish(generation));
}

Status Supervisor::start_generation(Generation& generation) {
  const Generation* before = active();
  const launch::FdStore* stored =
      before != nullptr && before != &generation ? &before->store() : nullptr;
  if (generation.starts() > 0) listen_anew(generation);
  save_state();  // who dies now leaves a process that its successor knows of
  Status started =
      generation.start(stored, generation.role() == Role::active ? 0 : kCandidateOomScore);
  hold_notify(generation);
  base::failpoint::hit("service.started");
  if (started) {
    event("service.started", "started", &generation, {{"pid", generation.main_pid()}});
    if (!generation.output_in_journal()) static_cast<void>(outputs_.add(generation.output_file()));
  }
  save_state();
  return started;
}

void Supervisor::on_changed(Generation& generation) {
  hold_stored(generation);
  if (generation.life() == Life::starting && generation.process() != nullptr &&
      readiness_is_ours(generation) && !checks_.contains(generation.number()))
    look_whether_listening(generation.number());
  save_state();
}

// A driver has probes; without one, an accepted connection is what we can know of readiness.
bool Supervisor::readiness_is_ours(const Generation& generation) const {
  switch (generation.plan().run.service.ready) {
    case release::Ready::notify:
      return false;
    case release::Ready::listening:
      return true;
    case release::Ready::probe:
      return !deployment_ || deployment_->automatic ||
             deployment_->candidate != generation.number();
  }
  return false;
}

void Supervisor::look_whether_listening(std::uint64_t number) {
  Generation* generation = find(number);
  if (generation == nullptr) return;
  checks_[number] = std::make_unique<ListeningCheck>(
      *loop_, policy_ ? &*policy_ : nullptr, *listeners_, *generation, [this, number] {
        // the check must not end while it calls
        timers_[number] = loop_->after(base::Milliseconds(0), [this, number] {
          checks_.erase(number);
          if (Generation* found = find(number)) found->mark_ready();
        });
      });
}

void Supervisor::on_ready(Generation& generation) {
  base::failpoint::hit("service.ready");
  if (const Status own = listeners_->check_own_sockets(generation, own_sockets());
      !own && deployment_ && deployment_->candidate == generation.number())
    return on_failed(generation, own.error());
  event("service.ready", "success", &generation, {{"pid", generation.main_pid()}});
  save_state();
  tell(generation, "ready", "");
  if (!deployment_ || deployment_->candidate != generation.number()) return;
  if (deployment_->automatic) promote_candidate();
}

void Supervisor::report_failure(const Generation& generation, const Error& error) {
  last_problem_ = error.line();
  Json detail = {{"problem", error.line()}};
  if (!generation.output_in_journal())
    if (const auto tail = launch::tail_of_output(generation.output_file(), kTailBytes)) {
      detail["output"] = *tail;
      last_problem_ += last_words(*tail);
    }
  event("service.failed", "failure", &generation, std::move(detail));
  ::syslog(LOG_ERR, "updagent: %s: %s", setup_.places.app.c_str(), last_problem_.c_str());
}

void Supervisor::on_failed(Generation& generation, const Error& failure) {
  // one that drains has a successor, which is started again
  if (generation.plan().adopted && generation.number() == active_) return adopted_ended(generation);
  const auto check = checks_.find(generation.number());
  const Error error = check != checks_.end() && failure.code() == Code::timed_out
                          ? Error(failure).got(check->second->missing())
                          : failure;
  checks_.erase(generation.number());
  report_failure(generation, error);
  if (deployment_ && deployment_->candidate == generation.number()) {
    withdraw_weight();
    tell(generation, "failed", last_problem_);
    if (deployment_->automatic) give_up_candidate(error.line());
    return save_state();
  }
  tell(generation, "failed", last_problem_);
  if (generation.number() == active_ && !stop_wanted_) return restart_later(generation.number());
  retire(generation.number(), true);
}

// The driver that goes back is a process like any other: it asks us for what it needs. For a worker
// nobody goes back by himself.
void Supervisor::crash_loop(const Generation& generation, int crashes) {
  const bool goes_back =
      generation.plan().worker.empty() &&
      generation.plan().run.service.on_crash_loop == release::CrashLoop::rollback && !deployment_ &&
      !setup_.rollback_command.empty();
  event("service.crash_loop", "failure", &generation,
        {{"crashes", crashes}, {"rollback", goes_back}});
  ::syslog(LOG_CRIT, "updagent: %s crashes again and again: %s", setup_.places.app.c_str(),
           last_problem_.c_str());
  if (goes_back) start_command(setup_.rollback_command);
}

void Supervisor::start_command(const std::vector<std::string>& command) {
  goes_on(base::start_detached(command, {std::string("PATH=") + base::kSafePath}));
}

// With back-off; connections wait in its queue meanwhile.
void Supervisor::restart_later(std::uint64_t number) {
  Crashes& crashes = crashes_[number];
  const base::Milliseconds wait = crashes.another(base::monotonic_now_us());
  if (crashes.is_loop()) {
    if (const Generation* generation = find(number)) crash_loop(*generation, crashes.in_a_row());
  }
  save_state();
  timers_[number] = loop_->after(wait, [this, number] { start_again(number); });
}

void Supervisor::start_again(std::uint64_t number) {
  Generation* generation = find(number);
  if (generation == nullptr) return;
  const bool never_started = generation->life() == Life::starting && generation->starts() == 0;
  if (generation->life() != Life::down && !never_started) return;
  const Status started = start_generation(*generation);
  if (started) return event("service.restarted", "started", generation, Json::object());
  last_problem_ = started.error().line();
  tell(*generation, "failed", last_problem_);
  restart_later(number);
}

void Supervisor::on_gone(Generation& generation) {
  const std::uint64_t number = generation.number();
  event("service.stopped", "success", &generation, Json::object());
  tell(generation, "gone", "");
  listeners_->retire(generation);
  base::failpoint::hit("service.retired");
  drop_held(generation);
  outputs_.remove(generation.output_file());
  if (active_ == number) active_ = 0;
  if (standby_ == number) standby_ = 0;
  // it is the generation itself that calls
  sweep_ = loop_->after(base::Milliseconds(0), [this] {
    for (auto item = generations_.begin(); item != generations_.end();) {
      if (item->second->life() != Life::gone) {
        ++item;
        continue;
      }
      const std::uint64_t gone = item->first;
      drains_.erase(gone);
      checks_.erase(gone);
      timers_.erase(gone);
      crashes_.erase(gone);
      complaints_.erase(gone);
      ::unlink(item->second->output_file().c_str());
      item = generations_.erase(item);
    }
    goes_on(
        apply_roles(deployment_ ? deployment_->weight : 0, policy_ ? policy_->expires_ns() : 0));
    start_waiting();
    save_state();
    finish_if_done();
  });
}

}  // namespace updagent::service
