#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>

#include "tests/unit/health/gate_case.hpp"

namespace updagent::health {
namespace {

const std::string kGood = "200 text/plain\nok\n";
const std::string kBad = "503 text/plain\n";

class ProbeGate : public GateCase {
 protected:
  void probes(int failures) {
    release::Probe probe = http_probe(url());
    probe.name = "healthz";
    probe.failures = failures;
    probes_ = {probe};
  }
  void names_it(int failures) {
    release::Gate one = gate(release::GateType::probe, "");
    one.probe = "healthz";
    one.failures = failures;
    gates_.push_back(one);
  }
  std::size_t answers_of(const std::string& name) const {
    return static_cast<std::size_t>(
        std::ranges::count(answers_, name, [](const ProbeResult& result) { return result.probe; }));
  }
};

TEST_F(ProbeGate, Both_sides_are_asked_apart) {
  pages("candidate", {kGood});
  pages("active", {kBad});
  probes(3);
  EXPECT_FALSE(run([this] {
                 return answers_of("healthz") >= 3 && answers_of("healthz (active)") >= 3;
               }).has_value());
  EXPECT_TRUE(judge_->standing().all_passed) << "only the candidate's answers judge";
  for (const ProbeResult& result : answers_)
    EXPECT_EQ(result.healthy, result.probe == "healthz") << result.problem;
}

TEST_F(ProbeGate, One_that_no_gate_names_is_judged_by_its_own_failures) {
  pages("candidate", {kGood, kBad});
  pages("active", {kGood});
  probes(4);
  const Verdict against = verdict();
  EXPECT_EQ(against.reason, "probe 'healthz' failed 4 times in a row: HTTP 503, expected 200-299");
  EXPECT_EQ(against.probe, "healthz");
}

TEST_F(ProbeGate, A_gate_that_names_it_has_failures_of_its_own) {
  pages("candidate", {kBad});
  pages("active", {kGood});
  probes(100);
  names_it(2);
  EXPECT_EQ(verdict().reason, "gate 'g' failed 2 times in a row: HTTP 503, expected 200-299");
  EXPECT_EQ(reports_.size(), 2U);
}

TEST_F(ProbeGate, That_the_active_one_fails_it_too_is_said) {
  pages("candidate", {kGood});
  pages("active", {kBad});
  probes(3);
  EXPECT_FALSE(run([this] { return answers_of("healthz (active)") >= 1; }).has_value());
  pages("candidate", {kGood, kBad});
  EXPECT_EQ(verdict().reason,
            "probe 'healthz' failed 3 times in a row: HTTP 503, expected 200-299; the active one "
            "fails it too");
}

TEST_F(ProbeGate, A_new_step_does_not_wait_for_a_long_interval) {
  pages("candidate", {kGood});
  pages("active", {kGood});
  probes(3);
  probes_[0].interval = base::Milliseconds(3'600'000);
  const auto all_passed = [this] { return judge_ && judge_->standing().all_passed; };
  EXPECT_FALSE(run(all_passed).has_value());
  judge_->begin_step();
  EXPECT_FALSE(all_passed());
  EXPECT_FALSE(run(all_passed).has_value());
  EXPECT_EQ(answers_of("healthz"), 2U);
  // the answer of one that is being asked is of the step before
  judge_->begin_step();
  EXPECT_FALSE(judge_->step(base::Milliseconds(0))->has_value());
  judge_->begin_step();
  EXPECT_FALSE(run(all_passed).has_value());
}

TEST_F(ProbeGate, A_new_step_wants_a_new_answer) {
  pages("candidate", {kGood});
  probes(3);
  has_active_ = false;
  steers_ = true;
  EXPECT_FALSE(run([this] { return judge_ && judge_->standing().all_passed; }).has_value());
  judge_->begin_step();
  EXPECT_FALSE(judge_->standing().all_passed);
  EXPECT_EQ(judge_->standing().waiting_for, "probe 'healthz': it has not been judged yet");
  EXPECT_FALSE(run([this] { return judge_->standing().all_passed; }).has_value());
}

TEST_F(ProbeGate, A_gate_of_a_probe_that_there_is_not_is_refused) {
  names_it(1);
  JudgeSetup setup;
  setup.gates = gates_;
  const auto made = GateJudge::make(std::move(setup), nullptr, nullptr);
  ASSERT_FALSE(made.has_value());
  EXPECT_EQ(made.error().got(), "'healthz'");
}

// --- what ends it from outside

TEST_F(ProbeGate, An_error_of_the_tick_is_a_verdict) {
  pages("candidate", {kGood});
  pages("active", {kGood});
  probes(3);
  context_.on_tick = [] { return base::Error(base::Code::probe_failed, "it crashed"); };
  EXPECT_EQ(verdict().reason, "it crashed");
}

TEST_F(ProbeGate, The_tick_comes_again_and_again_while_nothing_answers) {
  pages("candidate", {"hang"});
  pages("active", {"hang"});
  probes(3);
  int ticks = 0;
  context_.on_tick = [&ticks] {
    ++ticks;
    return base::ok();
  };
  EXPECT_FALSE(run([&ticks] { return ticks >= 3; }).has_value());
}

TEST_F(ProbeGate, A_signal_interrupts_it) {
  sigset_t before{};
  ::pthread_sigmask(SIG_SETMASK, nullptr, &before);
  auto interrupt = base::Interrupt::install();
  ASSERT_TRUE(interrupt.has_value());
  context_.interrupt = &*interrupt;
  pages("candidate", {"hang"});
  pages("active", {"hang"});
  probes(3);
  EXPECT_FALSE(run([this] { return judge_.has_value(); }).has_value());
  ::kill(::getpid(), SIGTERM);
  const Verdict against = verdict();
  EXPECT_TRUE(against.interrupted);
  EXPECT_FALSE(against.healthy);
  interrupt->acknowledge();
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace
}  // namespace updagent::health
