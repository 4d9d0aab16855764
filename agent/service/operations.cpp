// What may be asked at the control socket, an operation each.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "agent/base/failpoints.hpp"
#include "agent/base/files.hpp"
#include "agent/service/supervisor.hpp"
#include "agent/service/tell_systemd.hpp"

namespace updagent::service {
namespace {

using base::Code;
using base::Error;
using base::Json;
using base::Result;
using base::Status;

// Killing all of a generation and clearing up after it, once its own time is over.
constexpr base::Milliseconds kEndMargin{10'000};
// Longer than any handshake takes; a probe is brought to its generation by its first packet.
constexpr std::uint64_t kProbeLeaseNs = 20ULL * 1'000'000'000;

std::uint64_t lease_end_ns() {
  return listen::steering_now_ns() + static_cast<std::uint64_t>(kLease.count()) * 1'000'000;
}

}  // namespace

Result<release::ResolvedService> service_from(const Request& request) {
  if (request.descriptors.size() != 1)
    return Error(Code::usage, "the service comes as one descriptor");
  UPD_ASSIGN(const std::string text, base::read_fd(request.descriptors.front().get(), "the service",
                                                   release::kMaxResolvedServiceBytes));
  return release::resolved_service_from_json(text, Code::config_invalid);
}

Result<Answer> Supervisor::answer(const Request& request) {
  using Operation = Result<Answer> (Supervisor::*)(const Request&);
  struct Known {
    std::string_view name;
    Operation operation;
    bool of_a_deployment;  // the epoch must be the present one
  };
  static constexpr std::array<Known, 17> kOperations = {{
      {"begin", &Supervisor::op_begin, false},
      {"start", &Supervisor::op_start, true},
      {"ready", &Supervisor::op_ready, true},
      {"probe", &Supervisor::op_probe, false},
      {"probe_end", &Supervisor::op_probe_end, false},
      {"weight", &Supervisor::op_weight, true},
      {"renew", &Supervisor::op_renew, true},
      {"commit", &Supervisor::op_commit, true},
      {"rollback", &Supervisor::op_rollback, true},
      {"end", &Supervisor::op_end, true},
      {"measure", &Supervisor::op_measure, false},
      {"output", &Supervisor::op_output, false},
      {"order", &Supervisor::op_order, false},
      {"order_taken", &Supervisor::op_order_taken, true},
      {"progress", &Supervisor::op_progress, true},
      {"status", &Supervisor::op_status, false},
      {"stop", &Supervisor::op_stop, false},
  }};
  if (request.op == "restart") return op_restart(request);
  if (request.op == "upgrade") return op_upgrade(request);
  if (request.op == "adopt") return op_adopt(request);
  for (const Known& known : kOperations) {
    if (known.name != request.op) continue;
    if (known.of_a_deployment) UPD_TRY(check_epoch(request));
    return (this->*known.operation)(request);
  }
  return Error(Code::usage, "the supervisor knows no '" + request.op + "'");
}

// A driver that was stopped while its deployment was ended for it must not go on with it.
Status Supervisor::check_epoch(const Request& request) const {
  if (!deployment_ || request.number("epoch") != deployment_->epoch)
    return ended_by_somebody_else(request.number("epoch"));
  return base::ok();
}

Status Supervisor::check_not_stopping() const {
  if (!stop_wanted_ || nothing_lives()) return base::ok();
  return Error(Code::busy, "'" + setup_.places.app + "' is being stopped")
      .hint("again when updagent status shows no generation of it");
}

Error Supervisor::ended_by_somebody_else(std::uint64_t epoch) const {
  return Error(Code::busy, "this deployment was ended by somebody else")
      .expected("epoch " + std::to_string(epoch_))
      .got(std::to_string(epoch));
}

// For whoever drives: at a verdict it ends the candidate's share in the kernel by itself.
Json Supervisor::policy_described() const {
  if (!policy_) return nullptr;
  const auto ids = policy_->ids();
  if (!ids) return nullptr;  // it asks us then
  // a text: a tag has more bits than JSON's numbers are sure to keep (RFC 8259, 6)
  return {{"map", ids->map}, {"tag", std::to_string(ids->tag)}};
}

Result<Answer> Supervisor::op_begin(const Request& request) {
  if (deployment_ && deployment_->driver != 0 && control_->is_open(deployment_->driver))
    return Error(Code::busy, "a deployment of this app is under way")
        .got("trace " + deployment_->trace_id);
  if (deployment_ && deployment_->automatic)
    return Error(Code::busy, "a restart of this app is under way").hint("again in a moment");
  UPD_TRY(check_not_stopping());
  // a driver whose supervisor died goes on where it was, if nobody has ended that for it
  if (const std::uint64_t before = request.number("resumes"); before != 0)
    if (!deployment_ || deployment_->epoch != before) return ended_by_somebody_else(before);
  if (generations_.empty()) UPD_TRY(choose_mechanism());
  check_steering();
  look_for_strangers();
  if (!deployment_) deployment_.emplace();
  if (request.number("resumes") == 0) {  // whoever begins anew was not given what another one was
    deployment_->orders.clear();
    deployment_->aborted_by.clear();
    deployment_->progress = Json();
  }
  deployment_->epoch = ++epoch_;
  deployment_->driver = request.connection;
  deployment_->orphan_timer.reset();
  if (const std::string trace = request.text("trace"); !trace.empty())
    deployment_->trace_id = trace;
  save_state();
  tell_orders();
  const auto describe = [](const Generation* generation) {
    if (generation == nullptr) return Json(nullptr);
    return Json{{"number", generation->number()},
                {"version", generation->version()},
                {"life", life_name(generation->life())}};
  };
  return Answer{{"epoch", epoch_},
                {"mechanism", listen::mechanism_name(mechanism_.mechanism)},
                {"reason", mechanism_.reason},
                {"policy", policy_described()},
                {"active", describe(active())},
                {"candidate", describe(candidate())}};
}

// Before a start that can wait: a successor that does not know of a generation ends it, and goes
// back to what the state knows.
Status Supervisor::save_known() {
  save_state();
  if (saved_) return base::ok();
  return Error(saved_.error()).hint("is there room in '" + setup_.places.runtime + "'?");
}

Result<Answer> Supervisor::op_start(const Request& request) {
  UPD_ASSIGN(release::ResolvedService run, service_from(request));
  if (deployment_->candidate != 0) return Error(Code::busy, "there is a candidate already");
  // not those that are gone: whoever was told so asks before the sweep has taken them out
  const auto living = std::count_if(generations_.begin(), generations_.end(), [](const auto& item) {
    return item.second->life() != Life::gone;
  });
  if (living >= run.max_generations) return no_room(request.number("end_oldest") == 1);
  const bool restarts = run.strategy == release::kStrategyRestart;
  Generation* before = active();
  if (restarts && before != nullptr && before->plan().adopted)
    return Error(Code::strategy_unsupported,
                 "the service that was adopted could not be started again if this went wrong")
        .expected("strategy handoff")
        .got("strategy restart")
        .hint("updagent stop " + setup_.places.app + ", then apply");
  if (!restarts) UPD_TRY(check_room(before, run.memory_reserve));
  check_steering();  // a candidate must not join a group without a program
  UPD_ASSIGN(Generation * generation, make_generation(std::move(run)));
  deployment_->candidate = generation->number();
  deployment_->lease_lost = false;  // of another candidate, if of any
  Status started = save_known();
  if (started && restarts && before != nullptr) {
    started = replace_in_place(*generation, *before);
  } else if (started) {
    steer_back();  // a name that the active one has lost for ever comes back with the candidate
    started = renew_salt();
    if (started) started = start_generation(*generation);
  }
  if (!started) {
    generation->stop(true);
    deployment_->candidate = 0;
    return std::move(started).error();
  }
  return Answer{{"generation", generation->number()}};
}

// Not an error: whoever asked is told when one of them is gone, and asks again.
Answer Supervisor::no_room(bool end_oldest) {
  Generation* oldest = nullptr;
  for (const auto& [number, generation] : generations_)
    if (oldest == nullptr && generation->role() == Role::draining) oldest = generation.get();
  if (oldest == nullptr) return Answer{{"generation", nullptr}, {"living", generations_.size()}};
  const std::size_t busy = busy_connections(*listeners_, *oldest);
  const bool waits = drains_.contains(oldest->number());
  if (end_oldest && waits) {
    event("traffic.drain_ended", "success", oldest, {{"busy", busy}});
    drains_.erase(oldest->number());
    oldest->stop(false);
    save_state();
  }
  return Answer{{"generation", nullptr},
                {"living", generations_.size()},
                {"oldest", oldest->version()},
                {"busy", busy}};
}

Result<Answer> Supervisor::op_ready(const Request& request) {
  Generation* generation = candidate();
  if (generation == nullptr || generation->number() != request.number("generation"))
    return Error(Code::not_found, "that is not the candidate");
  generation->mark_ready();
  return Answer::object();
}

Result<Answer> Supervisor::op_probe(const Request& request) {
  const Generation* generation = find(request.number("generation"));
  if (generation == nullptr) return Error(Code::not_found, "there is no such generation");
  if (!policy_) return Answer{{"entry", nullptr}};
  UPD_ASSIGN(const listen::Address source,
             listen::parse_address(request.text("source"), "source", Code::usage));
  UPD_ASSIGN(const unsigned entry, policy_->enter_probe(source, generation->slot(),
                                                        listen::steering_now_ns() + kProbeLeaseNs));
  return Answer{{"entry", entry}};
}

Result<Answer> Supervisor::op_probe_end(const Request& request) {
  if (policy_) policy_->clear_probe(static_cast<unsigned>(request.number("entry")));
  return Answer::object();
}

Result<Answer> Supervisor::op_weight(const Request& request) {
  const std::uint64_t weight = request.number("weight");
  if (weight > listen::kWeightAll) return Error(Code::usage, "a weight is of 10,000");
  UPD_TRY(check_weight_allowed());
  const Generation* generation = candidate();
  if (generation == nullptr || generation->life() != Life::ready)
    return Error(Code::not_found, "there is no candidate that is ready");
  if (weight > 0) UPD_TRY(listeners_->reachable(*generation));
  UPD_TRY(apply_roles(static_cast<std::uint16_t>(weight), lease_end_ns()));
  base::failpoint::hit("service.weight_stored");
  deployment_->weight = static_cast<std::uint16_t>(weight);
  deployment_->lease_timer =
      weight == 0 ? Watch() : loop_->after(kLease, [this] { lease_expired(); });
  event("traffic.weight", "success", generation, {{"weight", weight}});
  save_state();
  return Answer{{"weight", weight}};
}

Result<Answer> Supervisor::op_renew(const Request&) {
  check_steering();
  UPD_TRY(check_weight_allowed());
  const Generation* generation = candidate();
  if (generation == nullptr || generation->life() != Life::ready)
    return Error(Code::probe_failed, "there is no candidate that is ready")
        .got(generation == nullptr ? "none" : std::string(life_name(generation->life())));
  UPD_TRY(listeners_->reachable(*generation));
  if (deployment_->weight == 0) return Answer::object();
  if (policy_) {
    const Status renewed = policy_->renew(lease_end_ns());
    if (!renewed) {
      lease_expired();
      return renewed.error();
    }
  }
  deployment_->lease_timer = loop_->after(kLease, [this] { lease_expired(); });
  return Answer::object();
}

Result<Answer> Supervisor::op_commit(const Request&) {
  const Generation* generation = candidate();
  if (generation == nullptr || generation->life() == Life::gone)
    return Error(Code::not_found, "there is no candidate");
  const std::uint64_t number = generation->number();
  promote_candidate();
  // It was good until now and the link says so: it comes again like any active one.
  if (generation->life() == Life::down) restart_later(number);
  return Answer{{"generation", number}};
}

Result<Answer> Supervisor::op_rollback(const Request& request) {
  const std::string reason = request.text("reason");
  // Users first: to steer them back takes no description of what serves them.
  const bool in_place = deployment_->candidate != 0 && deployment_->candidate == active_;
  if (!in_place) give_up_candidate(reason);
  Status described = base::ok();
  if (!request.descriptors.empty()) {
    auto run = service_from(request);
    if (run)
      deployment_->old_run = std::move(*run);
    else
      described = run.error();
  }
  if (in_place) give_up_candidate(reason);
  // the candidate of a strategy restart is gone already, and with it all that ran
  if (active() == nullptr && waiting_ == 0) {
    if (!deployment_->old_run) UPD_TRY(described);
    if (deployment_->old_run) UPD_TRY(start_committed(*std::exchange(deployment_->old_run, {})));
  }
  goes_on(described);
  // who waits for its next start waits no longer: users are its own again
  if (const Generation* old = active(); old != nullptr && old->life() == Life::down)
    start_again(active_);
  return Answer{{"active", active_}};
}

Result<Answer> Supervisor::op_end(const Request&) {
  if (deployment_->candidate != 0) end_by_link("the deployment was ended");
  deployment_.reset();
  save_state();
  return Answer::object();
}

Result<Answer> Supervisor::op_status(const Request& request) {
  check_steering();
  if (request.number("look") == 1) look_for_strangers();
  Json generations = Json::array();
  for (const auto& [number, generation] : generations_) {
    const bool is_candidate = deployment_ && deployment_->candidate == number;
    const int weight =
        is_candidate ? (policy_ ? policy_->effective_weight() : deployment_->weight)
        : number == active_
            ? static_cast<int>(listen::kWeightAll) -
                  (deployment_ && deployment_->candidate != 0
                       ? (policy_ ? policy_->effective_weight() : deployment_->weight)
                       : 0)
            : 0;
    generations.push_back({{"number", number},
                           {"version", generation->version()},
                           {"role", role_name(generation->role())},
                           {"pid", generation->main_pid()},
                           {"state", life_name(generation->life())},
                           {"weight", weight},
                           {"since_us", generation->since_us()},
                           {"status", generation->status_text()},
                           {"starts", generation->starts()},
                           {"waiting", listeners_->waiting(*generation)},
                           {"listeners", listeners_->described(*generation)}});
  }
  Json deployment = nullptr;
  if (deployment_)
    deployment = {{"trace_id", deployment_->trace_id},    {"epoch", deployment_->epoch},
                  {"driven", deployment_->driver != 0},   {"candidate", deployment_->candidate},
                  {"weight", deployment_->weight},        {"lease_lost", deployment_->lease_lost},
                  {"orders", deployment_->orders.size()}, {"progress", deployment_->progress}};
  return Answer{{"pid", ::getpid()},
                {"mechanism", listen::mechanism_name(mechanism_.mechanism)},
                {"reason", mechanism_.reason},
                {"cgroups", cgroups_.has_value()},
                {"cgroup_reason", cgroup_reason_},
                {"active", active_},
                {"stopping", stop_wanted_},
                {"problem", last_problem_},
                {"strangers", strangers_},
                {"deployment", std::move(deployment)},
                {"generations", std::move(generations)},
                {"workers", workers_->status()}};
}

Result<Answer> Supervisor::op_stop(const Request& request) {
  // init does not ask: the driver sees its connection end
  if (!request.fields.value("by_init", false) && deployment_ && deployment_->driver != 0 &&
      control_->is_open(deployment_->driver))
    return Error(Code::busy, "a deployment of this app is under way");
  base::Milliseconds patience = workers_->patience() + kEndMargin;
  for (const auto& [number, generation] : generations_)
    patience = std::max(patience, generation->plan().run.max_stop_timeout + kEndMargin);
  tell_systemd("STOPPING=1\nEXTEND_TIMEOUT_USEC=" + std::to_string(patience.count() * 1000));
  const std::size_t count = generations_.size();
  end_all();
  return Answer{{"generations", count}, {"patience_ms", patience.count()}};
}

void Supervisor::end_all() {
  stop_wanted_ = true;
  deployment_.reset();
  for (const auto& [number, generation] : generations_) {
    drains_.erase(number);
    timers_.erase(number);
    // a second signal means "now" to some
    if (generation->life() != Life::stopping) generation->stop(false);
  }
  waiting_ = 0;
  workers_->stop_all();
  save_state();
  if (nothing_lives()) sweep_ = loop_->after(base::Milliseconds(0), [this] { finish_if_done(); });
}

// The same release again, with whatever the node's configuration says now.
Result<Answer> Supervisor::op_restart(const Request& request) {
  if (deployment_) return Error(Code::busy, "a deployment of this app is under way");
  UPD_ASSIGN(release::ResolvedService run, service_from(request));
  UPD_TRY(check_not_stopping());
  if (active() == nullptr) {
    UPD_TRY(start_committed(std::move(run)));
    return Answer{{"generation", active_}};
  }
  if (request.fields.value("running_is_fine", false)) return Answer{{"generation", active_}};
  const bool in_place = run.strategy == release::kStrategyRestart;
  if (!in_place) UPD_TRY(check_room(active(), run.memory_reserve));
  Generation* before = active();
  UPD_ASSIGN(Generation * generation, make_generation(std::move(run)));
  deployment_.emplace();
  deployment_->epoch = ++epoch_;
  deployment_->automatic = true;
  deployment_->candidate = generation->number();
  Status started = save_known();
  if (started && in_place) {
    started = replace_in_place(*generation, *before);
  } else if (started) {
    steer_back();
    started = start_generation(*generation);
  }
  if (!started) {
    generation->stop(true);
    deployment_.reset();
    return std::move(started).error();
  }
  return Answer{{"generation", generation->number()}};
}

}  // namespace updagent::service
