#include "agent/health/probe_panel.hpp"

#include <algorithm>

#include "agent/health/probe_loop.hpp"

namespace updagent::health {
namespace {

base::Status check_names(const JudgeSetup& setup) {
  for (const release::Gate& gate : setup.gates) {
    if (gate.type != release::GateType::probe) continue;
    if (std::ranges::find(setup.probes, gate.probe, &release::Probe::name) == setup.probes.end())
      return base::Error(base::Code::manifest_invalid,
                         "the gate '" + gate.name + "' names a probe that there is not")
          .got("'" + gate.probe + "'");
  }
  return base::ok();
}

}  // namespace

base::Result<std::unique_ptr<ProbePanel>> ProbePanel::make(const Judging& judging,
                                                           const OnResult& on_probe,
                                                           const GateJudge::OnGate& on_gate) {
  UPD_TRY(check_names(judging.setup));
  std::unique_ptr<ProbePanel> panel(new ProbePanel(judging, on_probe));
  for (const release::Probe& probe : judging.setup.probes) panel->add(probe, judging, on_gate);
  return panel;
}

void ProbePanel::add(const release::Probe& probe, const Judging& judging,
                     const GateJudge::OnGate& on_gate) {
  Watched& watched = watched_.emplace_back();
  watched.probe = &probe;
  const auto ask = [&](SideIndex side, const ProbeContext& context) {
    std::uint64_t& asked = judging.own.asked[side];
    const auto start = [&probe, &context, &asked](CURLM* multi) {
      if (probe.type == release::ProbeType::http) ++asked;
      return start_probe(probe, context, multi);
    };
    return loop_.add(start, is_steered(probe, context));
  };
  watched.sides[kCandidate].question = ask(kCandidate, judging.candidate);
  // what can't be brought to the active one would only ask the candidate twice
  if (judging.active != nullptr && is_steered(probe, *judging.active))
    watched.sides[kActive].question = ask(kActive, *judging.active);
  for (const release::Gate& gate : judging.setup.gates)
    if (gate.type == release::GateType::probe && gate.probe == probe.name)
      watched.tallies.emplace_back(gate, on_gate);
  if (watched.tallies.empty()) watched.tallies.emplace_back(probe, on_gate);
}

void ProbePanel::begin_step() {
  began_us_ = base::monotonic_now_us();
  for (Watched& watched : watched_) {
    for (GateTally& tally : watched.tallies) tally.begin_step();
    for (const Answers& side : watched.sides)
      if (side.question && !loop_.is_asked(*side.question)) loop_.ask(*side.question, began_us_);
  }
}

std::vector<std::size_t> ProbePanel::questions() const {
  std::vector<std::size_t> questions;
  for (const Watched& watched : watched_)
    for (const Answers& side : watched.sides)
      if (side.question) questions.push_back(*side.question);
  return questions;
}

std::optional<Verdict> ProbePanel::hear(QuestionLoop::Answer answer) {
  for (Watched& watched : watched_) {
    for (const SideIndex index : {kCandidate, kActive}) {
      Answers& side = watched.sides[index];
      if (side.question != answer.index) continue;
      // what was asked before this step says nothing of it, and the interval may be an hour
      loop_.ask(answer.index, answer.started_us < began_us_
                                  ? base::monotonic_now_us()
                                  : next_question_us(*watched.probe, answer));
      side.in_a_row = side.healthy == answer.finding.healthy ? side.in_a_row + 1 : 1;
      side.healthy = answer.finding.healthy;
      const std::int64_t started_us = answer.started_us;
      const ProbeResult result = tell(watched, index, std::move(answer));
      if (index == kActive) return std::nullopt;
      return judge(watched, result, started_us);
    }
  }
  return std::nullopt;
}

ProbeResult ProbePanel::tell(const Watched& watched, SideIndex side,
                             QuestionLoop::Answer answer) const {
  ProbeResult result{watched.probe->name,
                     answer.finding.healthy,
                     std::move(answer.finding.problem),
                     std::move(answer.finding.output),
                     answer.duration_us,
                     watched.sides[side].in_a_row};
  if (side == kActive) result.probe += " (active)";
  if (on_probe_) on_probe_(result);
  return result;
}

std::optional<Verdict> ProbePanel::judge(Watched& watched, const ProbeResult& result,
                                         std::int64_t started_us) {
  const Answers& active = watched.sides[kActive];
  Judgement judgement;
  judgement.is_early = started_us < began_us_;
  judgement.output = result.output;
  judgement.text = "healthy";
  if (!result.healthy) {
    judgement.status = GateStatus::failed;
    judgement.text = result.problem;
    if (active.in_a_row > 0 && !active.healthy) judgement.text += "; the active one fails it too";
  }
  judgement.numbers["duration_ms"] = result.duration_us / 1000;
  std::optional<Verdict> verdict;
  for (GateTally& tally : watched.tallies) {
    auto against = tally.add(judgement);
    if (!verdict) verdict = std::move(against);
  }
  return verdict;
}

}  // namespace updagent::health
