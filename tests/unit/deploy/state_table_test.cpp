// The table is total: every deployment ends, whatever happens on the way.
#include "agent/deploy/state_table.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace updagent::deploy {
namespace {

// What next_state() answers; `restarted` is decided by Row::restarted.
constexpr std::array<Event, 3> kEvents = {Event::done, Event::failed, Event::interrupted};

std::set<State> reachable_from(State first) {
  std::set<State> seen = {first};
  std::vector<State> open = {first};
  while (!open.empty()) {
    const State state = open.back();
    open.pop_back();
    for (const Event event : kEvents) {
      const State next = next_state(state, event, Strategy::files);
      if (seen.insert(next).second) open.push_back(next);
    }
  }
  return seen;
}

// A signal during the way back begins it again, so that nobody can cut it short. The step takes the
// signal first (Interrupt::acknowledge), and kMaxSteps bounds it all the same.
bool is_loop_by_design(State state, Event event) {
  return state == State::rollback && event == Event::interrupted;
}

bool comes_back(State state, std::set<State> path) {
  if (state == State::closed) return false;
  if (!path.insert(state).second) return true;
  return std::any_of(kEvents.begin(), kEvents.end(), [&](Event event) {
    return !is_loop_by_design(state, event) &&
           comes_back(next_state(state, event, Strategy::files), path);
  });
}

TEST(StateTable, Each_row_stands_at_the_place_of_its_state) {
  for (std::size_t i = 0; i < kStateCount; ++i)
    EXPECT_EQ(static_cast<std::size_t>(state_table()[i].state), i);
}

TEST(StateTable, Every_state_of_the_strategy_files_is_reached_and_no_other) {
  const std::set<State> reached = reachable_from(State::fetch);
  for (const Row& row : state_table())
    EXPECT_EQ(reached.contains(row.state), (row.strategies & kFiles) != 0) << state_name(row.state);
}

TEST(StateTable, Every_event_leads_to_a_state_of_the_strategy) {
  for (const Row& row : state_table())
    for (const Event event : kEvents)
      EXPECT_TRUE(row_of(next_state(row.state, event, Strategy::files)).strategies & kFiles)
          << state_name(row.state);
}

TEST(StateTable, Success_leads_through_the_stages_in_the_order_of_a_deployment) {
  std::vector<State> way = {State::fetch};
  while (way.back() != State::closed && way.size() <= kStateCount)
    way.push_back(next_state(way.back(), Event::done, Strategy::files));
  const std::vector<State> wanted = {State::fetch,       State::verify,    State::stage,
                                     State::pre_upgrade, State::switching, State::watch,
                                     State::commit,      State::cleanup,   State::closed};
  EXPECT_EQ(way, wanted);
}

TEST(StateTable, Closed_is_never_left) {
  for (const Event event : kEvents)
    EXPECT_EQ(next_state(State::closed, event, Strategy::files), State::closed);
}

TEST(StateTable, No_cycle_avoids_closed) {
  for (const Row& row : state_table())
    EXPECT_FALSE(comes_back(row.state, {})) << state_name(row.state);
}

TEST(StateTable, The_bound_on_steps_is_above_the_longest_way) {
  EXPECT_GT(static_cast<std::size_t>(kMaxSteps), 2 * kStateCount);
}

TEST(StateTable, Before_the_switch_failures_and_signals_abandon) {
  for (const State state : {State::fetch, State::verify, State::stage, State::pre_upgrade}) {
    EXPECT_EQ(next_state(state, Event::failed, Strategy::files), State::abandon)
        << state_name(state);
    EXPECT_EQ(next_state(state, Event::interrupted, Strategy::files), State::abandon)
        << state_name(state);
  }
}

TEST(StateTable, From_the_switch_to_the_commit_failures_and_signals_roll_back) {
  for (const State state : {State::switching, State::watch, State::commit}) {
    EXPECT_EQ(next_state(state, Event::failed, Strategy::files), State::rollback)
        << state_name(state);
    EXPECT_EQ(next_state(state, Event::interrupted, Strategy::files), State::rollback)
        << state_name(state);
  }
}

TEST(StateTable, A_signal_does_not_end_the_way_back) {
  EXPECT_EQ(next_state(State::rollback, Event::interrupted, Strategy::files), State::rollback);
}

TEST(StateTable, A_restart_before_the_switch_abandons) {
  for (const State state : {State::fetch, State::verify, State::stage, State::pre_upgrade,
                            State::start, State::preflight, State::abandon})
    EXPECT_EQ(row_of(state).restarted, Restart::abandon) << state_name(state);
}

// The journal is not waited for from the switch on: the row may be older than the links.
TEST(StateTable, A_restart_from_the_switch_to_the_commit_asks_the_disk) {
  for (const State state : {State::switching, State::shift, State::watch, State::commit})
    EXPECT_EQ(row_of(state).restarted, Restart::ask_committed_link) << state_name(state);
}

TEST(StateTable, A_restart_on_the_way_back_goes_on_with_it) {
  EXPECT_EQ(row_of(State::rollback).restarted, Restart::roll_back);
}

TEST(StateTable, A_restart_after_the_decision_repeats_the_cleanup_alone) {
  EXPECT_EQ(row_of(State::cleanup).restarted, Restart::again);
  EXPECT_EQ(row_of(State::closed).restarted, Restart::nothing);
}

TEST(StateTable, Names_are_found_again_and_belong_to_one_state_each) {
  std::set<std::string> names;
  for (const Row& row : state_table()) {
    EXPECT_EQ(state_from_name(state_name(row.state)), std::optional<State>(row.state));
    EXPECT_TRUE(names.emplace(state_name(row.state)).second) << state_name(row.state);
  }
  EXPECT_EQ(state_from_name("switching"), std::nullopt);
  EXPECT_EQ(state_from_name(""), std::nullopt);
}

TEST(StateTable, Every_state_but_abandon_and_closed_is_a_stage_of_the_log_with_its_phase) {
  const std::set<std::string> phases = {"pre-upgrade", "upgrade", "post-check", "rollback"};
  for (const Row& row : state_table()) {
    const bool is_stage = row.state != State::abandon && row.state != State::closed;
    EXPECT_EQ(!row.stage.empty(), is_stage) << state_name(row.state);
    if (is_stage) {
      EXPECT_EQ(row.stage, state_name(row.state));
      EXPECT_TRUE(phases.contains(std::string(row.phase))) << state_name(row.state);
    }
  }
}

}  // namespace
}  // namespace updagent::deploy
