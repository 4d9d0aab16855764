#include <gtest/gtest.h>
#include <signal.h>

#include <map>

#include "tests/unit/health/probe_server.hpp"

namespace updagent::health {
namespace {

constexpr base::Milliseconds kLong{600'000};  // a watch that an answer must end

class Verdicts : public ::testing::Test {
 protected:
  release::Probe probe(const std::string& path, int failures = 3, int successes = 1) const {
    release::Probe made = http_probe(server_.url(path));
    made.name = path;
    made.failures = failures;
    made.successes = successes;
    return made;
  }
  ProbeServer server_;
};

// --- prove ------------------------------------------------------------------------------------

TEST_F(Verdicts, Without_probes_a_release_is_proven) {
  const Verdict verdict = prove_all({});
  EXPECT_TRUE(verdict.healthy);
  EXPECT_EQ(verdict.results, 0U);
}

TEST_F(Verdicts, It_takes_the_asked_number_of_successes_in_a_row) {
  std::vector<int> in_a_row;
  const Verdict verdict = prove_all({probe("/ok", 3, 4)}, {}, [&](const ProbeResult& result) {
    EXPECT_TRUE(result.healthy);
    EXPECT_EQ(result.problem, "");
    in_a_row.push_back(result.in_a_row);
  });
  EXPECT_TRUE(verdict.healthy);
  EXPECT_EQ(in_a_row, (std::vector<int>{1, 2, 3, 4}));
}

TEST_F(Verdicts, Fewer_failures_in_a_row_than_the_limit_are_waited_out) {
  std::vector<int> in_a_row;
  const Verdict verdict = prove_all({probe("/late?n=3", 4, 2)}, {}, [&](const ProbeResult& result) {
    in_a_row.push_back(result.healthy ? result.in_a_row : -result.in_a_row);
  });
  EXPECT_TRUE(verdict.healthy);
  EXPECT_EQ(in_a_row, (std::vector<int>{-1, -2, -3, 1, 2}));
}

TEST_F(Verdicts, The_limit_of_failures_in_a_row_decides_and_is_named) {
  const Verdict verdict = prove_all({probe("/late?n=3", 3)});
  EXPECT_FALSE(verdict.healthy);
  EXPECT_FALSE(verdict.interrupted);
  EXPECT_EQ(verdict.probe, "/late?n=3");
  EXPECT_EQ(verdict.results, 3U);
  EXPECT_EQ(verdict.reason,
            "probe '/late?n=3' failed 3 times in a row: HTTP 503, expected 200-299");
}

TEST_F(Verdicts, A_probe_that_flaps_for_ever_has_failed) {
  const Verdict verdict = prove_all({probe("/flap?n=1", 2, 2)});
  EXPECT_FALSE(verdict.healthy);
  EXPECT_EQ(verdict.results, static_cast<std::uint64_t>(kMaxResultsToProve));
  EXPECT_EQ(verdict.reason,
            "probe '/flap?n=1' neither passed nor failed in 100 results, the last one: HTTP 503, "
            "expected 200-299");
}

TEST_F(Verdicts, Several_probes_are_asked_at_once_and_all_must_pass) {
  std::map<std::string, int> asked;
  std::vector<release::Probe> probes = {probe("/ok"), probe("/late?n=2"), exec_probe("exit 0"),
                                        quick_probe(release::ProbeType::tcp)};
  probes.back().address = "127.0.0.1:" + server_.port();
  probes.back().name = "tcp";
  const Verdict verdict =
      prove_all(probes, {}, [&](const ProbeResult& result) { ++asked[result.probe]; });
  EXPECT_TRUE(verdict.healthy) << verdict.reason;
  EXPECT_GE(asked["/late?n=2"], 3);
  EXPECT_GE(asked["/ok"], 1);
  EXPECT_GE(asked["p"], 1);
  EXPECT_GE(asked["tcp"], 1);
}

TEST_F(Verdicts, A_probe_that_hangs_does_not_hold_up_another_ones_verdict) {
  const Verdict verdict =
      prove_all({probe("/slow"), exec_probe("exec sleep 1000"), probe("/fail", 2)});
  EXPECT_EQ(verdict.probe, "/fail");
}

TEST_F(Verdicts, A_probe_is_not_asked_before_its_initial_delay) {
  // it would fail on the first question; the control makes it good before the second probe may ask
  release::Probe late = probe("/state", 1);
  late.initial_delay = base::Milliseconds(300);
  const std::int64_t before_us = base::monotonic_now_us();
  std::int64_t first_us = 0;
  prove_all({probe("/control/bad"), late}, {}, [&](const ProbeResult& result) {
    if (result.probe == "/state") first_us = base::monotonic_now_us();
  });
  EXPECT_GE(first_us - before_us, 300'000);  // a promise of ours, not a measurement
}

// --- watch ------------------------------------------------------------------------------------

TEST_F(Verdicts, A_watch_of_nothing_is_healthy_at_once_and_asks_nobody) {
  const Verdict verdict = watch_all({probe("/fail", 1)}, base::Milliseconds(0));
  EXPECT_TRUE(verdict.healthy);
  EXPECT_EQ(verdict.results, 0U);
}

TEST_F(Verdicts, A_probe_that_stays_good_through_the_watch_is_healthy) {
  std::vector<base::Milliseconds> left;
  const Verdict verdict = watch_all({probe("/ok", 1)}, base::Milliseconds(1500), {}, nullptr,
                                    [&](base::Milliseconds span) { left.push_back(span); });
  EXPECT_TRUE(verdict.healthy) << verdict.reason;
  EXPECT_GE(verdict.results, 1U);
  ASSERT_FALSE(left.empty());
  EXPECT_GT(left.front(), base::Milliseconds(0));
}

TEST_F(Verdicts, A_probe_that_turns_bad_ends_the_watch) {
  const Verdict verdict = watch_all({probe("/after?n=5", 3)}, kLong);
  EXPECT_FALSE(verdict.healthy);
  EXPECT_EQ(verdict.results, 8U);
  EXPECT_EQ(verdict.reason,
            "probe '/after?n=5' failed 3 times in a row: HTTP 503, expected 200-299");
}

TEST_F(Verdicts, Single_failures_below_the_limit_do_not_end_the_watch) {
  std::uint64_t bad = 0;
  const Verdict verdict =
      watch_all({probe("/flap?n=2", 3)}, base::Milliseconds(1500), {},
                [&](const ProbeResult& result) { bad += result.healthy ? 0 : 1; });
  EXPECT_TRUE(verdict.healthy) << verdict.reason;
  EXPECT_GE(bad, 1U);
}

TEST_F(Verdicts, A_probe_without_an_answer_by_the_end_of_the_watch_is_waited_for) {
  release::Probe slow = probe("/slow", 1);
  slow.timeout = base::Milliseconds(600);
  const Verdict verdict = watch_all({slow}, base::Milliseconds(200));
  EXPECT_FALSE(verdict.healthy);
  EXPECT_EQ(verdict.results, 1U);
}

TEST_F(Verdicts, A_watch_that_ends_while_a_probe_fails_goes_on_until_that_is_decided) {
  release::Probe failing = probe("/fail", 3);
  failing.interval = base::Milliseconds(300);
  const Verdict verdict = watch_all({failing}, base::Milliseconds(100));
  EXPECT_FALSE(verdict.healthy);
  EXPECT_EQ(verdict.results, 3U);
}

TEST_F(Verdicts, What_is_never_decided_ends_with_the_limit_of_the_node) {
  release::Probe never = probe("/ok", 1);
  never.initial_delay = base::Milliseconds(3'600'000);
  ProbeContext context;
  context.prove_limit = base::Milliseconds(200);
  const Verdict verdict = prove_all({never}, context);
  EXPECT_FALSE(verdict.healthy);
  EXPECT_NE(verdict.reason.find("neither passed nor failed"), std::string::npos) << verdict.reason;
}

TEST_F(Verdicts, The_countdown_comes_at_least_every_second_while_a_probe_hangs) {
  release::Probe slow = probe("/slow", 1);
  slow.timeout = base::Milliseconds(3000);  // its answer is waited for, beyond the watch
  std::vector<base::Milliseconds> left;
  watch_all({slow}, base::Milliseconds(2500), {}, nullptr,
            [&](base::Milliseconds span) { left.push_back(span); });
  EXPECT_GE(left.size(), 3U);
  EXPECT_TRUE(std::is_sorted(left.rbegin(), left.rend()));
}

// --- interrupt --------------------------------------------------------------------------------

class Interrupted : public Verdicts {
 protected:
  void SetUp() override {
    ::pthread_sigmask(SIG_SETMASK, nullptr, &before_);
    auto installed = base::Interrupt::install();
    ASSERT_TRUE(installed.has_value());
    interrupt_.emplace(std::move(*installed));
    context_.interrupt = &*interrupt_;
  }
  void TearDown() override {
    interrupt_->acknowledge();
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    ::signal(SIGHUP, SIG_DFL);
    ::signal(SIGPIPE, SIG_DFL);
  }
  // The server hangs, so only the signal that this probe sends can end the wait.
  static release::Probe sends_signal() {
    return exec_probe("kill -TERM " + std::to_string(::getpid()) + "; exec sleep 1000");
  }
  sigset_t before_{};
  std::optional<base::Interrupt> interrupt_;
  ProbeContext context_;
};

TEST_F(Interrupted, A_signal_ends_proving) {
  const Verdict verdict = prove_all({probe("/slow"), sends_signal()}, context_);
  EXPECT_TRUE(verdict.interrupted);
  EXPECT_FALSE(verdict.healthy);
  EXPECT_EQ(verdict.reason, "interrupted");
}

TEST_F(Interrupted, A_signal_ends_the_watch) {
  EXPECT_TRUE(watch_all({probe("/slow"), sends_signal()}, kLong, context_).interrupted);
}

}  // namespace
}  // namespace updagent::health
