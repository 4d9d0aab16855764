// Counters are those of a slot that others had before: only differences say something.
#include "agent/deploy/rollout_figures.hpp"

#include <gtest/gtest.h>

namespace updagent::deploy {
namespace {

using base::Json;

Json row(std::uint64_t number, std::int64_t selected, std::int64_t fallback = 0) {
  return {{"number", number}, {"selected", selected}, {"fallback", fallback}};
}

Json answer(const std::vector<Json>& rows) {
  return {{"generations", rows}};
}

TEST(RolloutFigures, Connections_are_what_came_between_two_answers) {
  const Json before = answer({row(7, 1000), row(8, 40, 3)});
  const Json now = answer({row(7, 1900, 5), row(8, 100, 4)});
  EXPECT_EQ(connections_since(now, before, 7), 905U);
  EXPECT_EQ(connections_since(now, before, 8), 61U);
  EXPECT_EQ(all_connections_since(now, before), 966U);
  EXPECT_EQ(all_connections_since(now, now), 0U);
}

// 7 had the slot and counted 5000; of 8, its heir, the rollout's first answer says so.
TEST(RolloutFigures, What_an_earlier_generation_of_the_slot_had_is_not_the_candidates) {
  const Json opened = answer({row(6, 200), row(8, 5000)});
  const Json now = answer({row(6, 290), row(8, 5010)});
  EXPECT_EQ(connections_since(now, opened, 8), 10U);
  EXPECT_EQ(kernel_figures(now, now, opened, 8)->selected, 10U);
}

TEST(RolloutFigures, A_counter_that_fell_was_made_anew_and_counts_from_nothing) {
  const Json before = answer({row(7, 1000, 50)});
  const Json now = answer({row(7, 12, 60)});
  EXPECT_EQ(connections_since(now, before, 7), 22U);
  EXPECT_EQ(all_connections_since(now, before), 22U);
}

TEST(RolloutFigures, A_generation_that_is_gone_counts_nothing_and_has_no_figures) {
  const Json before = answer({row(7, 1000), row(8, 40)});
  const Json now = answer({row(8, 50)});
  EXPECT_EQ(connections_since(now, before, 7), 0U);
  EXPECT_EQ(all_connections_since(now, before), 10U);
  EXPECT_FALSE(kernel_figures(now, now, before, 7).has_value());
}

TEST(RolloutFigures, A_generation_that_came_meanwhile_counts_from_its_first_connection) {
  const Json before = answer({row(7, 1000)});
  const Json now = answer({row(7, 1000), row(8, 3)});
  EXPECT_EQ(connections_since(now, before, 8), 3U);
  EXPECT_EQ(kernel_figures(now, now, before, 8)->selected, 3U);
}

TEST(RolloutFigures, An_answer_without_generations_is_no_connection) {
  const Json before = answer({row(7, 1000)});
  for (const Json& none : {Json(), Json::object(), Json{{"generations", 7}}}) {
    EXPECT_EQ(connections_since(none, before, 7), 0U);
    EXPECT_EQ(all_connections_since(none, before), 0U);
    EXPECT_FALSE(kernel_figures(none, none, before, 7).has_value());
  }
}

TEST(RolloutFigures, Memory_and_descriptors_are_of_the_newest_answer_that_has_them) {
  Json slow = row(8, 10);
  slow.update({{"memory_bytes", 1 << 20}, {"descriptors", 12}, {"waiting", 99}, {"cpu_us", 1}});
  Json quick = row(8, 20);
  quick.update({{"waiting", 3}, {"waiting_limit", 128}, {"crashes", 1}, {"cpu_us", 77}});
  const auto figures =
      kernel_figures(answer({quick}), answer({slow}), answer({row(8, 0)}), 8).value();
  EXPECT_EQ(figures.selected, 20U);
  EXPECT_EQ(figures.waiting, 3U);
  EXPECT_EQ(figures.waiting_limit, 128U);
  EXPECT_EQ(figures.crashes, 1U);
  EXPECT_EQ(figures.cpu_us, 77U);
  EXPECT_EQ(figures.memory_bytes, std::uint64_t{1} << 20);
  EXPECT_EQ(figures.descriptors, 12U);
}

TEST(RolloutFigures, What_nobody_knows_is_no_figure_rather_than_a_nought) {
  Json one = row(8, 20);
  one.update({{"cpu_us", nullptr}, {"oom_kills", nullptr}, {"memory_bytes", -1}});
  const auto figures = kernel_figures(answer({one}), answer({one}), answer({}), 8).value();
  EXPECT_FALSE(figures.cpu_us.has_value());
  EXPECT_FALSE(figures.oom_kills.has_value());
  EXPECT_FALSE(figures.memory_bytes.has_value());
  EXPECT_FALSE(figures.descriptors.has_value());
}

}  // namespace
}  // namespace updagent::deploy
