// What of many answers becomes an event, and that a flapping release can't fill the log.
#include "agent/deploy/probe_log.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/base/test_directory.hpp"

namespace updagent::deploy {
namespace {

class Nobody : public Observer {
 public:
  void started(std::string_view, std::string_view, std::string_view, std::string_view) override {}
  void stage_started(std::string_view) override {}
  void stage_finished(std::string_view, std::string_view, std::int64_t, std::string_view) override {
  }
  void progress(const BytesProgress&) override {}
  void watching(base::Milliseconds, base::Milliseconds) override {}
  void rollout(const RolloutProgress&, bool) override {}
  void note(std::string_view) override {}
  void warning(std::string_view) override {}
};

journal::DeploymentRow deployment() {
  journal::DeploymentRow row;
  row.trace_id = "4bf92f3577b34da6a3ce929d0e0e4736";
  row.root_span_id = "b7ad6b7169203331";
  row.app = "shop";
  row.kind = "apply";
  row.from_version = "1.0.0";
  row.to_version = "2.0.0";
  row.actor = "uid=0";
  row.started_us = base::wall_now_us();
  return row;
}

std::vector<release::Probe> probes() {
  release::Probe healthz;
  healthz.name = "healthz";
  healthz.successes = 2;
  return {healthz};
}

class ProbeLogTest : public testing::Test {
 protected:
  void SetUp() override {
    auto opened = journal::Journal::open(paths(), "node-1", journal::Journal::Mode::read_write);
    ASSERT_TRUE(opened) << opened.error().line();
    journal_.emplace(std::move(*opened));
    recorder_.emplace(&*journal_, paths(), "node-1", deployment(), nobody_);
    ASSERT_TRUE(recorder_->open());
    log_.emplace(*recorder_, probes_);
  }

  journal::Paths paths() const {
    return {folder_.path("db"), folder_.path("head"), folder_.path("spool"),
            folder_.path("reserve")};
  }
  // "probe.failed healthz", in their order.
  std::vector<std::string> told() {
    log_->flush();
    std::vector<std::string> all;
    journal::LogFilter filter;
    filter.limit = 0;
    EXPECT_TRUE(journal_->query(filter, [&](const journal::Event& event) {
      const char* subject = event.event.starts_with("gate.") ? "gate" : "probe";
      if (event.detail.contains(subject))
        all.push_back(event.event + " " + event.detail[subject].get<std::string>());
      return true;
    }));
    return all;
  }
  void probe(bool healthy, int in_a_row, const std::string& name = "healthz") {
    log_->hear(health::ProbeResult{name, healthy, healthy ? "" : "HTTP 503", "", 1'000, in_a_row});
  }
  void gate(health::GateStatus status, int in_a_row = 0, const std::string& name = "errors") {
    log_->hear(health::GateReport{name, status, "text", {{"n", 1}}, in_a_row, in_a_row});
  }
  static std::size_t count(const std::vector<std::string>& all, const std::string& one) {
    return static_cast<std::size_t>(std::count(all.begin(), all.end(), one));
  }

  test::TestDirectory folder_;
  Nobody nobody_;
  std::vector<release::Probe> probes_ = probes();
  std::optional<journal::Journal> journal_;
  std::optional<Recorder> recorder_;
  std::optional<ProbeLog> log_;
};

TEST_F(ProbeLogTest, A_probe_that_goes_on_as_it_did_is_told_once) {
  for (int i = 1; i <= 20; ++i) probe(true, i);
  EXPECT_EQ(told(), std::vector<std::string>{"probe.passed healthz"});
}

TEST_F(ProbeLogTest, A_success_counts_when_there_are_enough_of_them_a_failure_at_once) {
  probe(true, 1);
  EXPECT_TRUE(told().empty()) << "healthz needs two";
  probe(true, 2);
  probe(false, 1);
  probe(false, 2);
  probe(true, 1);
  probe(true, 2);
  EXPECT_EQ(told(), (std::vector<std::string>{"probe.passed healthz", "probe.failed healthz",
                                              "probe.recovered healthz"}));
}

TEST_F(ProbeLogTest, That_of_the_active_one_is_known_by_its_own_name) {
  probe(true, 1, "healthz (active)");
  probe(false, 1, "healthz (active)");
  EXPECT_EQ(told(), (std::vector<std::string>{"probe.passed healthz (active)",
                                              "probe.failed healthz (active)"}));
}

TEST_F(ProbeLogTest, A_probe_that_flaps_is_told_as_often_as_the_bound_and_counted_on) {
  constexpr std::size_t kFlaps = kMaxProbeEvents + 30;
  for (std::size_t i = 0; i < kFlaps; ++i) probe(false, 1);
  EXPECT_EQ(told().size(), kMaxProbeEvents);
  EXPECT_EQ(log_->changes(), kFlaps);
}

TEST_F(ProbeLogTest, A_gate_that_holds_is_told_once_and_every_failure_is) {
  using health::GateStatus;
  gate(GateStatus::no_data);
  gate(GateStatus::no_data);
  gate(GateStatus::passed);
  gate(GateStatus::passed);
  gate(GateStatus::failed, 1);
  gate(GateStatus::failed, 2);
  gate(GateStatus::passed);
  EXPECT_EQ(told(), (std::vector<std::string>{"gate.no_data errors", "gate.passed errors",
                                              "gate.failed errors", "gate.failed errors",
                                              "gate.passed errors"}));
}

TEST_F(ProbeLogTest, A_gate_that_has_held_is_known_from_one_that_nobody_could_judge) {
  using health::GateStatus;
  EXPECT_FALSE(log_->has_passed("errors"));
  gate(GateStatus::skipped);
  EXPECT_FALSE(log_->has_passed("errors"));
  gate(GateStatus::passed);
  gate(GateStatus::no_data);  // of a window that goes on
  EXPECT_TRUE(log_->has_passed("errors"));
}

TEST_F(ProbeLogTest, The_last_failure_is_kept_with_its_numbers_also_past_the_bound) {
  using health::GateStatus;
  EXPECT_TRUE(log_->failure_of("errors").is_null());
  constexpr int kFailures = static_cast<int>(kMaxGateEvents) + 5;
  for (int i = 1; i <= kFailures; ++i) gate(GateStatus::failed, i);
  gate(GateStatus::passed);
  const auto all = told();
  EXPECT_EQ(count(all, "gate.failed errors"), kMaxGateEvents);
  EXPECT_EQ(all.size(), kMaxGateEvents);
  EXPECT_EQ(log_->failure_of("errors")["gate"], "errors");
  EXPECT_EQ(log_->failure_of("errors")["in_a_row"], kFailures);
  EXPECT_EQ(log_->failure_of("errors")["numbers"]["n"], 1);
  EXPECT_TRUE(log_->failure_of("other").is_null());
}

}  // namespace
}  // namespace updagent::deploy
