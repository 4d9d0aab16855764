#include "agent/health/gates.hpp"

#include <algorithm>
#include <vector>

#include "agent/health/gate_run.hpp"
#include "agent/health/gate_tally.hpp"
#include "agent/health/probe_panel.hpp"
#include "agent/health/question_loop.hpp"

namespace updagent::health {
namespace {

constexpr base::Milliseconds kLookAtMost{
    1000};                        // on_tick, and between looks at the kernel's figures
constexpr int kLooksOfShort = 5;  // at least, of short windows
constexpr base::Milliseconds kShortestLook{50};

MadeGate make_gate(const release::Gate& gate, const Judging& judging) {
  switch (gate.type) {
    case release::GateType::scrape:
      return make_scrape_gate(gate, judging);
    case release::GateType::prometheus:
      return make_prometheus_gate(gate, judging);
    case release::GateType::kernel:
      return make_kernel_gate(gate, judging);
    case release::GateType::exec:
      return make_exec_gate(gate, judging);
    case release::GateType::probe:
      break;  // the panel's
  }
  return base::Error(base::Code::internal, "a gate of an unknown type");
}

}  // namespace

std::string_view gate_status_name(GateStatus status) {
  switch (status) {
    case GateStatus::passed:
      return "passed";
    case GateStatus::failed:
      return "failed";
    case GateStatus::no_data:
      return "no_data";
    case GateStatus::skipped:
      return "skipped";
  }
  return "unknown";
}

struct GateJudge::State {
  struct Judged {
    GateTally tally;
    std::unique_ptr<GateRun> run;
    bool is_kernel = false;
  };

  State(JudgeSetup given, OnResult on_probe_result, OnGate on_judgement)
      : setup(std::move(given)),
        on_probe(std::move(on_probe_result)),
        on_gate(std::move(on_judgement)),
        unsteered(setup.context),
        candidate(setup.context),
        active(setup.context) {
    unsteered.steer = nullptr;
    unsteered.wants_proxy_header = nullptr;
    candidate.steer = setup.candidate.steer;
    if (setup.active) active.steer = setup.active->steer;
  }

  base::Status prepare();
  base::Status add_gates(const Judging& judging);
  void begin_step();
  std::optional<Verdict> tick();
  std::optional<Verdict> look();
  std::optional<Verdict> hear(QuestionLoop::Answer answer);
  std::optional<Verdict> overdue() const;
  bool has_kernel_gates() const;
  base::Milliseconds time_to_wait(base::Milliseconds at_most) const;
  bool is_interrupted() const {
    return setup.context.interrupt != nullptr && setup.context.interrupt->requested();
  }

  JudgeSetup setup;
  OnResult on_probe;
  OnGate on_gate;
  ProbeContext unsteered;
  ProbeContext candidate;
  ProbeContext active;
  OwnRequests own;
  std::optional<QuestionLoop> loop;
  std::unique_ptr<ProbePanel> panel;
  std::vector<Judged> gates;
  std::vector<std::optional<std::size_t>> owners;  // of each question: a gate, or else the panel
  base::Milliseconds look_every = kLookAtMost;
  base::Deadline next_tick = base::Deadline::in(base::Milliseconds(0));
  base::Deadline next_look = base::Deadline::in(base::Milliseconds(0));
  std::optional<Verdict> early;  // of what was judged when the step began
  bool has_begun = false;
  std::uint64_t results = 0;
};

base::Status GateJudge::State::prepare() {
  UPD_ASSIGN(loop, QuestionLoop::make(setup.context));
  const Judging judging{setup, candidate, setup.active ? &active : nullptr, unsteered, *loop, own};
  UPD_ASSIGN(panel, ProbePanel::make(judging, on_probe, on_gate));
  return add_gates(judging);
}

base::Status GateJudge::State::add_gates(const Judging& judging) {
  for (const release::Gate& gate : setup.gates) {
    if (gate.type == release::GateType::probe) continue;
    UPD_ASSIGN(std::unique_ptr<GateRun> run, make_gate(gate, judging));
    for (const std::size_t question : run->questions()) {
      owners.resize(std::max(owners.size(), question + 1));
      owners[question] = gates.size();
    }
    const bool is_kernel = gate.type == release::GateType::kernel;
    if (is_kernel) look_every = std::clamp(gate.window / kLooksOfShort, kShortestLook, look_every);
    gates.push_back({GateTally(gate, on_gate), std::move(run), is_kernel});
  }
  return base::ok();
}

bool GateJudge::State::has_kernel_gates() const {
  return setup.kernel && std::ranges::any_of(gates, &Judged::is_kernel);
}

void GateJudge::State::begin_step() {
  has_begun = true;
  panel->begin_step();
  for (Judged& gate : gates) {
    gate.tally.begin_step();
    auto judgement = gate.run->begin();
    auto verdict = judgement ? gate.tally.add(std::move(*judgement)) : std::nullopt;
    if (verdict && !early) early = std::move(verdict);
  }
  next_look = base::Deadline::in(base::Milliseconds(0));
}

std::optional<Verdict> GateJudge::State::tick() {
  if (!next_tick.passed()) return std::nullopt;
  next_tick = base::Deadline::in(kLookAtMost);
  const base::Status status = setup.context.on_tick ? setup.context.on_tick() : base::ok();
  if (status) return std::nullopt;
  Verdict verdict;
  verdict.reason = status.error().line();
  return verdict;
}

std::optional<Verdict> GateJudge::State::look() {
  if (!has_kernel_gates() || !next_look.passed()) return std::nullopt;
  next_look = base::Deadline::in(look_every);
  const base::Result<Figures> figures = setup.kernel();
  std::optional<Verdict> verdict;
  for (Judged& gate : gates) {
    auto judgement = gate.run->look(figures);
    if (!judgement) continue;
    ++results;
    auto against = gate.tally.add(std::move(*judgement));
    if (!verdict) verdict = std::move(against);
  }
  return verdict;
}

std::optional<Verdict> GateJudge::State::hear(QuestionLoop::Answer answer) {
  const auto owner = answer.index < owners.size() ? owners[answer.index] : std::nullopt;
  if (!owner) {
    ++results;
    return panel->hear(std::move(answer));
  }
  Judged& gate = gates[*owner];
  auto judgement = gate.run->hear(std::move(answer));
  if (!judgement) return std::nullopt;
  ++results;
  return gate.tally.add(std::move(*judgement));
}

std::optional<Verdict> GateJudge::State::overdue() const {
  for (const Judged& gate : gates)
    if (auto verdict = gate.tally.overdue()) return verdict;
  return std::nullopt;
}

base::Milliseconds GateJudge::State::time_to_wait(base::Milliseconds at_most) const {
  at_most = std::min(at_most, next_tick.left());
  return has_kernel_gates() ? std::min(at_most, next_look.left()) : at_most;
}

// --- GateJudge

GateJudge::GateJudge(std::unique_ptr<State> state) : state_(std::move(state)) {}
GateJudge::GateJudge(GateJudge&&) noexcept = default;
GateJudge& GateJudge::operator=(GateJudge&&) noexcept = default;
GateJudge::~GateJudge() = default;

base::Result<GateJudge> GateJudge::make(JudgeSetup setup, OnResult on_probe, OnGate on_gate) {
  auto state = std::make_unique<State>(std::move(setup), std::move(on_probe), std::move(on_gate));
  UPD_TRY(state->prepare());
  return GateJudge(std::move(state));
}

void GateJudge::begin_step() {
  state_->begin_step();
}

base::Result<std::optional<Verdict>> GateJudge::step(base::Milliseconds at_most) {
  State& state = *state_;
  if (!state.has_begun) state.begin_step();
  const auto against = [&state](Verdict verdict) {
    verdict.results = state.results;
    return std::optional<Verdict>(std::move(verdict));
  };
  if (state.is_interrupted()) {
    Verdict verdict;
    verdict.interrupted = true;
    verdict.reason = "interrupted";
    return against(std::move(verdict));
  }
  if (state.early) return against(*state.early);
  if (auto verdict = state.tick()) return against(std::move(*verdict));
  if (auto verdict = state.look()) return against(std::move(*verdict));
  if (auto verdict = state.overdue()) return against(std::move(*verdict));
  UPD_ASSIGN(auto answers, state.loop->step(state.time_to_wait(at_most)));
  for (QuestionLoop::Answer& answer : answers)
    if (auto verdict = state.hear(std::move(answer))) return against(std::move(*verdict));
  return std::optional<Verdict>();
}

void GateJudge::restart_no_data_clocks() {
  for (State::Judged& gate : state_->gates) gate.tally.restart_no_data_clock();
}

Standing GateJudge::standing() const {
  Standing standing;
  standing.all_passed = true;
  const auto add = [&standing](const GateTally& tally) {
    if (tally.passed() || !standing.all_passed) return;
    standing.all_passed = false;
    standing.waiting_for = tally.waiting_for();
    standing.no_data = tally.lacks_data();
  };
  state_->panel->visit(add);
  for (const State::Judged& gate : state_->gates) add(gate.tally);
  return standing;
}

}  // namespace updagent::health
