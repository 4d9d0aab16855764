// What of a release's steps and gates is had on this node, at this moment.
#include "agent/deploy/rollout_plan.hpp"

#include <gtest/gtest.h>

#include "agent/health/default_gates.hpp"

namespace updagent::deploy {
namespace {

using base::Milliseconds;
using release::GateType;

release::Rollout rollout_of(const std::vector<std::pair<int, int>>& steps) {
  release::Rollout rollout;
  for (const auto& [percent, seconds] : steps)
    rollout.steps.push_back({percent, Milliseconds(seconds * 1000), 5});
  return rollout;
}

std::vector<int> percents(const std::vector<release::Step>& steps) {
  std::vector<int> all;
  for (const release::Step& step : steps) all.push_back(step.percent);
  return all;
}

release::Gate gate(const std::string& name, GateType type) {
  release::Gate made;
  made.name = name;
  made.type = type;
  return made;
}

std::vector<std::string> names(const std::vector<release::Gate>& gates) {
  std::vector<std::string> all;
  for (const release::Gate& one : gates) all.push_back(one.name);
  return all;
}

std::size_t defaults() {
  return health::default_gates(kLeastForDefaultGates).size();
}

TEST(StepsToTake, Where_connections_are_steered_one_by_one_they_are_the_releases) {
  const release::Rollout wish = rollout_of({{1, 10}, {50, 20}, {100, 30}});
  EXPECT_EQ(steps_to_take(wish, true, {}), wish.steps);
}

TEST(StepsToTake, Without_anybody_to_share_with_all_goes_at_once_for_as_long_as_the_last) {
  const auto steps = steps_to_take(rollout_of({{1, 10}, {50, 20}, {100, 30}}), false, {});
  ASSERT_EQ(percents(steps), std::vector{100});
  EXPECT_EQ(steps[0].duration, Milliseconds(30'000));
  EXPECT_EQ(steps[0].min_connections, 0);
}

TEST(StepsToTake, Without_steps_all_goes_at_once_and_nobody_waits) {
  for (const bool one_by_one : {true, false}) {
    const auto steps = steps_to_take({}, one_by_one, {});
    ASSERT_EQ(percents(steps), std::vector{100});
    EXPECT_EQ(steps[0].duration, Milliseconds(0));
  }
}

TEST(StepsToTake, None_is_longer_than_the_node_allows) {
  config::AppSettings settings;
  settings.max_watch = Milliseconds(15'000);
  const release::Rollout wish = rollout_of({{1, 10}, {100, 30}});
  const auto steps = steps_to_take(wish, true, settings);
  EXPECT_EQ(steps[0].duration, Milliseconds(10'000));
  EXPECT_EQ(steps[1].duration, Milliseconds(15'000));
  EXPECT_EQ(steps_to_take(wish, false, settings)[0].duration, Milliseconds(15'000));
}

struct Wish {
  release::Manifest manifest;
  std::vector<release::Step> steps;
  Situation situation{.service = true, .handoff = true, .steered = true, .first = false};
  config::AppSettings settings;
  GatesToJudge judged() const { return gates_to_judge(manifest, steps, situation, settings); }
  std::vector<std::string> left_out() const {
    std::vector<std::string> names;
    for (const auto& [name, why] : judged().left_out) names.push_back(name);
    return names;
  }
};

TEST(GatesToJudge, Nobody_wrote_one_and_there_is_time_the_default_ones_are_judged) {
  Wish wish;
  wish.manifest.rollout.watch = kLeastForDefaultGates;
  EXPECT_EQ(wish.judged().gates.size(), defaults());
  EXPECT_GT(defaults(), 0U);
}

TEST(GatesToJudge, Steps_and_watch_together_are_the_time_that_default_gates_need) {
  Wish wish;
  wish.manifest.rollout.watch = kLeastForDefaultGates - Milliseconds(1);
  EXPECT_TRUE(wish.judged().gates.empty());
  wish.steps = rollout_of({{100, 1}}).steps;
  EXPECT_EQ(wish.judged().gates.size(), defaults());
}

TEST(GatesToJudge, A_watch_that_the_node_cuts_is_no_time) {
  Wish wish;
  wish.manifest.rollout.watch = Milliseconds(60'000);
  wish.settings.max_watch = Milliseconds(1'000);
  EXPECT_TRUE(wish.judged().gates.empty());
}

TEST(GatesToJudge, A_kernel_gate_of_the_release_takes_the_place_of_the_default_ones) {
  Wish wish;
  wish.manifest.rollout.watch = Milliseconds(60'000);
  wish.manifest.gates = {gate("errors", GateType::scrape)};
  EXPECT_EQ(wish.judged().gates.size(), 1 + defaults());
  wish.manifest.gates.push_back(gate("queue", GateType::kernel));
  EXPECT_EQ(names(wish.judged().gates), (std::vector<std::string>{"errors", "queue"}));
}

TEST(GatesToJudge, Without_a_service_there_is_nothing_that_the_kernel_knows) {
  Wish wish;
  wish.situation = {};
  wish.manifest.rollout.watch = Milliseconds(60'000);
  wish.manifest.gates = {gate("ask", GateType::exec)};
  EXPECT_EQ(names(wish.judged().gates), std::vector<std::string>{"ask"});
}

TEST(GatesToJudge, A_first_release_may_have_no_users_so_what_needs_them_is_left_out) {
  Wish wish;
  wish.manifest.gates = {gate("errors", GateType::scrape), gate("slo", GateType::prometheus),
                         gate("ask", GateType::exec), gate("queue", GateType::kernel),
                         gate("up", GateType::probe)};
  EXPECT_EQ(wish.judged().gates.size(), 5U);
  EXPECT_TRUE(wish.judged().left_out.empty());
  wish.manifest.gates[3].condition = "accepted_ratio >= 0.5";
  wish.manifest.gates.push_back(gate("memory", GateType::kernel));
  wish.situation.first = true;
  EXPECT_EQ(names(wish.judged().gates), (std::vector<std::string>{"ask", "up", "memory"}));
  EXPECT_EQ(wish.left_out(), (std::vector<std::string>{"errors", "slo", "queue"}));
}

TEST(GatesToJudge, Where_connections_are_shared_nobody_knows_whose_page_it_is) {
  Wish wish;
  wish.manifest.gates = {gate("errors", GateType::scrape), gate("slo", GateType::prometheus),
                         gate("queue", GateType::kernel)};
  wish.manifest.gates[2].condition = "accepted_ratio >= 0.5";
  wish.situation.steered = false;
  EXPECT_EQ(wish.left_out(), (std::vector<std::string>{"errors", "queue"}));
  wish.situation.handoff = false;  // one process alone answers
  EXPECT_EQ(wish.left_out(), std::vector<std::string>{"queue"});
}

TEST(GatesToJudge, None_waits_longer_for_data_than_the_node_allows) {
  Wish wish;
  wish.settings.max_step_patience = Milliseconds(20'000);
  wish.manifest.gates = {gate("a", GateType::exec), gate("b", GateType::exec)};
  wish.manifest.gates[0].no_data_timeout = Milliseconds(300'000);
  wish.manifest.gates[1].no_data_timeout = Milliseconds(10'000);
  const auto gates = wish.judged().gates;
  EXPECT_EQ(gates[0].no_data_timeout, Milliseconds(20'000));
  EXPECT_EQ(gates[1].no_data_timeout, Milliseconds(10'000));
}

// Several fit into the shortest span that there is.
TEST(GatesToJudge, Windows_of_default_gates_follow_the_shortest_span) {
  struct Case {
    std::vector<std::pair<int, int>> steps;
    int watch_seconds;
    int window_ms;
  };
  const std::vector<Case> cases = {
      {{}, 10, 2'000},                      // a fifth of the watch
      {{{10, 60}, {100, 15}}, 100, 3'000},  // of the shortest step
      {{{10, 60}, {100, 60}}, 100, 5'000},  // not longer than this
      {{{10, 2}, {100, 60}}, 100, 1'000},   // nor shorter than this
      {{{10, 0}, {100, 15}}, 100, 3'000},   // a step without a span is none
      {{{10, 20}, {100, 20}}, 0, 4'000},    // nor is a watch
  };
  for (const Case& one : cases) {
    Wish wish;
    wish.steps = rollout_of(one.steps).steps;
    wish.manifest.rollout.watch = Milliseconds(one.watch_seconds * 1000);
    const auto gates = wish.judged().gates;
    ASSERT_EQ(gates.size(), defaults());
    for (const release::Gate& each : gates)
      EXPECT_EQ(each.window, Milliseconds(one.window_ms)) << each.name;
  }
}

// A server with one thread accepts nothing while it answers: a page of some seconds is no hang.
TEST(GatesToJudge, A_hang_is_one_that_lasts_however_short_the_windows_are) {
  struct Case {
    int watch_seconds;
    int window_ms;
    int failures;
  };
  for (const Case& one : {Case{2, 1'000, 10}, {10, 2'000, 5}, {15, 3'000, 4}, {60, 5'000, 2}}) {
    Wish wish;
    wish.manifest.rollout.watch = Milliseconds(one.watch_seconds * 1000);
    for (const release::Gate& each : wish.judged().gates) {
      if (each.name != health::kHangGate) continue;
      EXPECT_EQ(each.window, Milliseconds(one.window_ms));
      EXPECT_EQ(each.failures, one.failures) << one.watch_seconds;
    }
  }
}

release::Gate kernel_gate(const std::string& condition, int window_ms) {
  release::Gate made = gate("k", GateType::kernel);
  made.condition = condition;
  made.window = Milliseconds(window_ms);
  return made;
}

TEST(LookEvery, Without_kernel_gates_it_is_seldom) {
  const std::vector<release::Gate> gates = {gate("errors", GateType::scrape)};
  EXPECT_EQ(look_every(gates).figures, Milliseconds(500));
  EXPECT_EQ(look_every(gates).thorough, Milliseconds(5'000));
}

TEST(LookEvery, Each_look_of_a_short_window_has_figures_of_its_own) {
  const std::vector<release::Gate> gates = {kernel_gate("queue <= 10", 10'000),
                                            kernel_gate("cpu <= 1", 500)};
  EXPECT_EQ(look_every(gates).figures, Milliseconds(50));
  EXPECT_EQ(look_every(gates).thorough, Milliseconds(5'000)) << "nobody asks for memory";
}

TEST(LookEvery, Each_window_has_memory_and_descriptors_of_its_own) {
  for (const std::string condition :
       {"memory <= 2 x active", "descriptors <= 100", health::kMemoryCondition}) {
    const std::vector<release::Gate> gates = {kernel_gate(condition, 2'000),
                                              kernel_gate(condition, 60'000)};
    EXPECT_EQ(look_every(gates).thorough, Milliseconds(1'000)) << condition;
  }
}

TEST(TimeToDecide, It_is_that_of_the_one_that_may_take_longest) {
  release::Probe probe;
  probe.name = "healthz";
  probe.interval = Milliseconds(1'000);
  probe.timeout = Milliseconds(2'000);
  probe.failures = 3;
  const std::vector<release::Probe> probes = {probe};
  EXPECT_EQ(time_to_decide(probes, {}), Milliseconds(9'000));
  release::Gate patient = gate("patient", GateType::probe);
  patient.probe = "healthz";
  patient.failures = 10;
  EXPECT_EQ(time_to_decide(probes, std::vector{patient}), Milliseconds(30'000));
  release::Gate silent = gate("silent", GateType::scrape);
  silent.window = Milliseconds(10'000);
  silent.timeout = Milliseconds(5'000);
  silent.no_data_timeout = Milliseconds(60'000);
  silent.failures = 2;
  EXPECT_EQ(time_to_decide(probes, std::vector{patient, silent}), Milliseconds(150'000));
  silent.type = GateType::exec;  // says something each time
  EXPECT_EQ(time_to_decide({}, std::vector{silent}), Milliseconds(30'000));
}

}  // namespace
}  // namespace updagent::deploy
