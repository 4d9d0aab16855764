// A command that says itself what it thinks of the release, once per window.
#include "agent/health/gate_run.hpp"

namespace updagent::health {
namespace {

class ExecGate : public GateRun {
 public:
  ExecGate(const release::Gate& gate, const Judging& judging)
      : gate_(gate), loop_(judging.loop), question_(judging.loop.add(start(judging), false)) {
    probe_.name = gate.name;
    probe_.command = gate.command;
    probe_.timeout = gate.timeout;
  }

  std::vector<std::size_t> questions() const override { return {question_}; }

  // One that runs is left alone: it may be in the middle of something.
  std::optional<Judgement> begin() override {
    began_us_ = base::monotonic_now_us();
    if (!loop_.is_asked(question_)) loop_.ask(question_, began_us_);
    return std::nullopt;
  }

  std::optional<Judgement> hear(QuestionLoop::Answer&& answer) override {
    const std::int64_t window_us = gate_.window.count() * 1000;
    loop_.ask(question_, answer.started_us + window_us);
    Judgement judgement;
    judgement.status = answer.finding.healthy ? GateStatus::passed : GateStatus::failed;
    judgement.is_early = answer.started_us < began_us_ + window_us;
    judgement.text = answer.finding.healthy ? "exit status 0" : std::move(answer.finding.problem);
    judgement.output = std::move(answer.finding.output);
    judgement.numbers["duration_ms"] = answer.duration_us / 1000;
    return judgement;
  }

 private:
  QuestionLoop::Start start(const Judging& judging) {
    return [this, &context = judging.unsteered](CURLM*) -> StartedRun {
      return start_exec(probe_, context);
    };
  }

  const release::Gate& gate_;
  QuestionLoop& loop_;
  release::Probe probe_;  // how commands are asked
  std::size_t question_;
  std::int64_t began_us_ = 0;
};

}  // namespace

MadeGate make_exec_gate(const release::Gate& gate, const Judging& judging) {
  return std::unique_ptr<GateRun>(std::make_unique<ExecGate>(gate, judging));
}

}  // namespace updagent::health
