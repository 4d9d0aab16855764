#include "agent/deploy/rollout.hpp"

#include <algorithm>
#include <utility>

#include "agent/base/failpoints.hpp"
#include "agent/deploy/production.hpp"
#include "agent/deploy/rollout_figures.hpp"

namespace updagent::deploy {
namespace {

using base::Code;
using base::Error;
using base::Json;
using base::Milliseconds;
using base::Status;

constexpr std::uint16_t kPercent = kFullWeight / kAll;
constexpr Milliseconds kSayWhyAfter{3'000};  // a window that ends a moment later is nothing to tell

}  // namespace

Rollout::Rollout(Parts parts)
    : parts_(std::move(parts)), log_(*parts_.recorder, parts_.manifest->probes) {}

Rollout::~Rollout() = default;

Status Rollout::open() {
  const bool handoff = parts_.manifest->strategy == release::kStrategyHandoff;
  const bool one_by_one =
      steered() && parts_.service->active().number != 0 &&
      steps_without_shares(*parts_.manifest, parts_.manifest->service->listeners).empty();
  steps_ = steps_to_take(parts_.manifest->rollout, one_by_one, *parts_.settings);
  GatesToJudge judged = gates_to_judge(
      *parts_.manifest, steps_, {parts_.service != nullptr, handoff, steered(), parts_.first},
      *parts_.settings);
  gates_ = std::move(judged.gates);
  look_every_ = look_every(gates_);
  to_decide_ = time_to_decide(parts_.manifest->probes, gates_);
  for (const auto& [gate, why] : judged.left_out)
    parts_.recorder->event("gate.skipped", "skipped", {{"gate", gate}, {"what", why}});
  UPD_TRY(look());
  opened_ = began_ = measured_;
  auto judge = health::GateJudge::make(
      judge_setup(), [this](const health::ProbeResult& result) { log_.hear(result); },
      [this](const health::GateReport& report) { log_.hear(report); });
  if (!judge) return judge.error();
  judge_.emplace(std::move(*judge));
  return base::ok();
}

// In the shared mechanism, and where updagent runs no service, questions go to whoever answers at
// the address, and there is nobody to compare with.
health::JudgeSetup Rollout::judge_setup() {
  health::JudgeSetup setup;
  setup.probes = parts_.manifest->probes;
  setup.gates = gates_;
  setup.context = parts_.context;
  setup.context.interrupt = parts_.interrupt;
  setup.app = parts_.manifest->app;
  setup.candidate.version = parts_.manifest->version.text();
  ServiceDriver* service = parts_.service;
  if (service == nullptr) return setup;
  setup.context.on_tick = [this, service]() -> Status {
    Status alive = service->tick();
    if (!alive) tick_error_ = alive.error();
    return alive;
  };
  setup.candidate.generation = service->candidate().number;
  setup.kernel = [this]() -> base::Result<health::Figures> {
    UPD_TRY(look());
    return figures();
  };
  if (!steered()) return setup;
  setup.candidate.steer = service->steer(service->candidate().number);
  // of strategy restart the one before is gone
  if (service->active().number != 0 && parts_.manifest->strategy == release::kStrategyHandoff)
    setup.active = health::Side{service->active().number, service->active().version,
                                service->steer(service->active().number)};
  return setup;
}

// --- steps

Status Rollout::take_steps() {
  detail_ = Json::object();
  UPD_TRY(obey());
  // ordered before there was any share: nobody comes to the candidate until it is resumed
  UPD_TRY(hold_back());
  Json taken = Json::array();
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    // promoted: the rest in one
    if (promoted_) i = steps_.size() - 1;
    const Status done = take_step(i);
    taken.push_back(steps_[i].percent);
    detail_["steps"] = taken;
    detail_["connections"] = connections_;
    if (!done) return done;
  }
  if (!unproven_.empty()) detail_["unproven_steps"] = unproven_;
  summary_ = steps_.size() == 1
                 ? "all new connections go to " + parts_.manifest->version.text()
                 : std::to_string(steps_.size()) + " steps, " + std::to_string(connections_) +
                       " connections, now all go to " + parts_.manifest->version.text();
  if (promoted_) summary_ += ", promoted by an operator";
  return base::ok();
}

Status Rollout::take_step(std::size_t index) {
  const release::Step& step = steps_[index];
  const bool last = index + 1 == steps_.size();
  const auto weight = last ? kFullWeight : static_cast<std::uint16_t>(step.percent * kPercent);
  UPD_TRY(parts_.service->set_weight(weight));
  base::failpoint::hit("deploy.step." + std::to_string(step.percent));
  Stretch stretch;
  stretch.percent = step.percent;
  stretch.span = step.duration;
  stretch.min_connections = step.min_connections;
  stretch.patience =
      std::min(parts_.manifest->rollout.step_patience, parts_.settings->max_step_patience);
  stretch.step = index;
  // all at once, and nobody asked for a step: what there is to see the watch sees
  const bool nobody_asked = parts_.manifest->rollout.steps.empty();
  if (promoted_ || nobody_asked) return base::ok();
  return hold(stretch);
}

Status Rollout::watch(Milliseconds span) {
  detail_ = Json::object();
  const bool nothing_to_judge = parts_.manifest->probes.empty() && parts_.manifest->gates.empty();
  summary_ = promoted_ ? "promoted by an operator" : "no probes";
  if (promoted_ || (span.count() == 0 && nothing_to_judge)) return base::ok();
  Stretch stretch;
  stretch.span = span;
  stretch.step = steps_.empty() ? 0 : steps_.size() - 1;
  stretch.watching = true;
  const Status held = hold(stretch);
  summary_ = promoted_ ? "promoted by an operator" : what_held(span);
  base::failpoint::hit("deploy.after_probes");
  if (log_.changes() > kMaxProbeEvents) detail_["probe_changes"] = log_.changes();
  return held;
}

// Before there is any share: nothing to judge.
Status Rollout::hold_back() {
  Stretch nobody;
  nobody.percent = 0;
  nobody.begun = false;
  began_ = measured_;
  while (!paused_by_.empty()) {
    show(nobody, Milliseconds(0), "", false);
    if (parts_.interrupt != nullptr && parts_.interrupt->requested())
      return Error(Code::interrupted, "stopped before the traffic was shifted");
    UPD_TRY(parts_.service->listen(kLookEvery, parts_.interrupt));
    UPD_TRY(obey());
  }
  return base::ok();
}

// Whatever is against the release: first its users go back.
Status Rollout::hold(const Stretch& stretch) {
  Status held = hold_until_over(stretch);
  if (!held && parts_.service != nullptr) parts_.service->withdraw();
  log_.flush();
  return held;
}

// Of the stretch; what an operator's pause took does not count.
Milliseconds Rollout::time_left(Milliseconds span) const {
  const std::int64_t until =
      paused_by_.empty() ? base::monotonic_now_us() : std::max(paused_us_, began_us_);
  return std::max(span - Milliseconds((until - began_us_) / 1000), Milliseconds(0));
}

// Until its time is over, every gate has held for a whole window of it and nobody pauses; or until
// something is against the release.
Status Rollout::hold_until_over(const Stretch& stretch) {
  judge_->begin_step();
  UPD_TRY(look_anew());
  began_ = measured_;
  shown_us_ = 0;
  began_us_ = base::monotonic_now_us();
  for (;;) {
    UPD_TRY(obey());
    if (promoted_) break;
    UPD_TRY(look());
    const std::string open = still_open(stretch);
    const Milliseconds left = time_left(stretch.span);
    const bool waits = !paused_by_.empty();
    if (waits) judge_->restart_no_data_clocks();
    if (left.count() == 0 && open.empty() && !waits) break;
    if (!waits && too_few_came(stretch)) return too_few(stretch);
    if (!waits && goes_up_and_down(stretch, open)) return undecided(stretch, open);
    const bool say_why = time_left(stretch.span + kSayWhyAfter).count() == 0;
    show(stretch, left, say_why ? open : "", false);
    UPD_TRY(judge_for(left.count() > 0 ? std::min(left, kLookEvery) : kLookEvery));
    log_.flush();
    if (left.count() == 0) note_no_data(judge_->standing());
  }
  return end_stretch(stretch);
}

Status Rollout::judge_for(Milliseconds span) {
  UPD_ASSIGN(const auto verdict, judge_->step(span));
  return verdict ? Status(against(*verdict)) : base::ok();
}

std::string Rollout::still_open(const Stretch& stretch) const {
  const std::uint64_t came = count().candidate;
  if (stretch.min_connections > 0 && came < static_cast<std::uint64_t>(stretch.min_connections))
    return std::to_string(came) + " of " + std::to_string(stretch.min_connections) +
           " connections came";
  const health::Standing standing = judge_->standing();
  return standing.all_passed ? "" : standing.waiting_for;
}

Error Rollout::against(const health::Verdict& verdict) {
  base::failpoint::hit("deploy.before_verdict");
  if (parts_.service != nullptr) parts_.service->withdraw();
  if (verdict.interrupted) return {Code::interrupted, "stopped while the release was watched"};
  if (tick_error_) return *tick_error_;
  const bool by_gate = std::any_of(gates_.begin(), gates_.end(), [&](const release::Gate& gate) {
    return gate.name == verdict.probe && gate.type != release::GateType::probe;
  });
  detail_[by_gate ? "gate" : "probe"] = verdict.probe;
  if (const Json failure = log_.failure_of(verdict.probe); by_gate && failure.is_object())
    detail_["verdict"] = failure;
  if (!verdict.output.empty()) detail_["output"] = verdict.output;
  if (parts_.service != nullptr)
    if (std::string last = parts_.service->output_of_candidate(); !last.empty())
      detail_["candidate_output"] = std::move(last);
  return Error(by_gate ? Code::gate_failed : Code::probe_failed, verdict.reason)
      .hint("updagent log show " + parts_.recorder->row().trace_id +
            " has the numbers and the last output");
}

// --- orders and pauses

// Heard first: what was ordered a moment ago holds before any share grows.
Status Rollout::obey() {
  if (parts_.service == nullptr) return base::ok();
  UPD_TRY(parts_.service->tick());
  for (const OperatorOrder& order : parts_.service->take_orders()) obey(order);
  return check_pause();
}

void Rollout::obey(const OperatorOrder& order) {
  const Json detail = {{"by", order.actor}};
  if (order.word == "pause" && paused_by_.empty()) {
    paused_by_ = order.actor.empty() ? "an operator" : order.actor;
    paused_us_ = base::monotonic_now_us();
    parts_.recorder->event("rollout.paused", "success", detail);
    parts_.observer->note("paused by " + paused_by_ + ": updagent deployment resume " +
                          parts_.manifest->app);
  } else if (order.word == "resume" && !paused_by_.empty()) {
    paused_by_.clear();
    began_us_ += base::monotonic_now_us() - std::max(paused_us_, began_us_);
    parts_.recorder->event("rollout.resumed", "success", detail);
  } else if (order.word == "promote") {
    promoted_ = true;
    paused_by_.clear();
  }
  static_cast<void>(parts_.recorder->flush());
}

Status Rollout::check_pause() const {
  if (paused_by_.empty()) return base::ok();
  const std::int64_t span_us = base::monotonic_now_us() - paused_us_;
  if (span_us < parts_.settings->max_pause.count() * 1000) return base::ok();
  return Error(Code::timed_out, "the deployment was paused by " + paused_by_ + " for too long")
      .expected("to be resumed within " + base::format_duration(parts_.settings->max_pause))
      .hint("limits.max_pause of the node decides that");
}

// A gate without data holds the deployment like a person would.
void Rollout::note_no_data(const health::Standing& standing) {
  if (standing.no_data == no_data_) return;
  no_data_ = standing.no_data;
  if (++no_data_events_ > kMaxGateEvents) return;
  parts_.recorder->event(no_data_ ? "rollout.paused" : "rollout.resumed", "success",
                         {{"by", "no data"}, {"what", standing.waiting_for}});
  static_cast<void>(parts_.recorder->flush());
  if (no_data_) parts_.observer->warning("waiting for data: " + standing.waiting_for);
}

// --- figures

// What came before a stretch is none of it, and what came to its very end is.
Status Rollout::look_anew() {
  looked_us_ = 0;
  return look();
}

Status Rollout::look() {
  if (parts_.service == nullptr) return base::ok();
  const std::int64_t now_us = base::monotonic_now_us();
  if (looked_us_ != 0 && now_us - looked_us_ < look_every_.figures.count() * 1000)
    return base::ok();
  const bool thorough = looked_thoroughly_us_ == 0 ||
                        now_us - looked_thoroughly_us_ >= look_every_.thorough.count() * 1000;
  UPD_ASSIGN(measured_, parts_.service->measure(thorough));
  looked_us_ = now_us;
  if (!thorough) return base::ok();
  looked_thoroughly_us_ = now_us;
  thorough_ = measured_;
  return base::ok();
}

health::Figures Rollout::figures() const {
  const std::uint64_t active = parts_.service->active().number;
  health::Figures figures;
  figures.candidate =
      kernel_figures(measured_, thorough_, opened_, parts_.service->candidate().number)
          .value_or(health::KernelFigures());
  if (active != 0) figures.active = kernel_figures(measured_, thorough_, opened_, active);
  return figures;
}

Rollout::Count Rollout::count() const {
  if (parts_.service == nullptr) return {};
  return {connections_since(measured_, began_, parts_.service->candidate().number),
          all_connections_since(measured_, began_)};
}

void Rollout::show(const Stretch& stretch, Milliseconds left, const std::string& waiting_for,
                   bool ended) {
  const std::int64_t now_us = base::monotonic_now_us();
  if (!ended && shown_us_ != 0 && now_us - shown_us_ < kLookEvery.count() * 1000) return;
  shown_us_ = now_us;
  const Count came = count();
  RolloutProgress progress;
  for (const release::Step& step : steps_) progress.percents.push_back(step.percent);
  progress.step = stretch.step;
  progress.begun = stretch.begun;
  progress.watching = stretch.watching;
  if (came.all > 0)
    progress.measured_percent =
        kAll * static_cast<double>(came.candidate) / static_cast<double>(came.all);
  progress.connections = came.candidate;
  progress.left = left;
  progress.whole = stretch.span;
  progress.paused = !paused_by_.empty();
  progress.waiting_for = progress.paused ? "paused by " + paused_by_ : waiting_for;
  parts_.observer->rollout(progress, ended);
  if (parts_.service == nullptr || ended) return;
  parts_.service->tell_progress(
      {{"percent", stretch.percent},
       {"measured", came.all > 0 ? Json(came.candidate * kFullWeight / came.all) : Json(nullptr)},
       {"connections", progress.connections},
       {"paused", progress.paused},
       {"watching", progress.watching},
       {"waiting_for", progress.waiting_for},
       {"left_ms", left.count()}});
}

}  // namespace updagent::deploy
