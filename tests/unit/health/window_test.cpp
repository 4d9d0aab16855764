#include "agent/health/window.hpp"

#include <gtest/gtest.h>

#include <limits>

namespace updagent::health {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

TEST(Increase, It_is_the_difference_and_what_fell_counts_from_0) {
  EXPECT_EQ(increase(10, 14), 4);
  EXPECT_EQ(increase(10, 10), 0);
  EXPECT_EQ(increase(10, 3), 3);
}

TEST(Increase, Each_series_is_differenced_alone_before_all_are_summed) {
  // the sum did not fall, but one of them was started anew
  EXPECT_EQ(increase({{"a", 10}, {"b", 10}}, {{"a", 3}, {"b", 20}}), 13);
}

TEST(Increase, A_series_that_appears_counts_from_0_and_one_that_is_gone_does_not) {
  EXPECT_EQ(increase({{"gone", 100}, {"a", 1}}, {{"a", 2}, {"new", 5}}), 6);
}

TEST(Increase, Buckets_of_all_series_are_summed_by_their_bound) {
  const BucketSet before = {{0.1, {{"a", 1}, {"b", 0}}}, {kInfinity, {{"a", 2}, {"b", 1}}}};
  const BucketSet after = {{0.1, {{"a", 4}, {"b", 2}}}, {kInfinity, {{"a", 9}, {"b", 3}}}};
  EXPECT_EQ(increase(before, after), (Buckets{{0.1, 5}, {kInfinity, 9}}));
  EXPECT_EQ(samples(increase(before, after)), 9);
}

// --- quantiles: each as PromQL's histogram_quantile() has it

TEST(QuantileOf, It_is_interpolated_within_its_bucket) {
  // the 50th of 100 is the 30th of 60 between 0.1 and 0.5
  const Buckets buckets = {{0.1, 20}, {0.5, 80}, {1, 100}, {kInfinity, 100}};
  EXPECT_DOUBLE_EQ(quantile(0.5, buckets)->value, 0.3);
  EXPECT_DOUBLE_EQ(quantile(0.8, buckets)->value, 0.5);
  EXPECT_DOUBLE_EQ(quantile(0.9, buckets)->value, 0.75);
  EXPECT_FALSE(quantile(0.9, buckets)->at_least);
}

TEST(QuantileOf, The_lowest_bucket_begins_at_0) {
  EXPECT_DOUBLE_EQ(quantile(0.5, {{0.2, 100}, {kInfinity, 100}})->value, 0.1);
}

TEST(QuantileOf, A_lowest_bucket_of_negative_values_has_no_beginning) {
  EXPECT_DOUBLE_EQ(quantile(0.5, {{-1, 100}, {kInfinity, 100}})->value, -1);
}

TEST(QuantileOf, In_the_last_bucket_it_is_at_least_the_highest_bound) {
  const auto high = quantile(0.99, {{0.1, 50}, {2.5, 90}, {kInfinity, 100}});
  EXPECT_DOUBLE_EQ(high->value, 2.5);
  EXPECT_TRUE(high->at_least);
}

TEST(QuantileOf, A_bucket_that_counts_less_than_the_one_below_counts_as_much) {
  EXPECT_DOUBLE_EQ(quantile(0.5, {{0.1, 60}, {0.5, 55}, {kInfinity, 100}})->value, 0.1 * 50 / 60);
}

TEST(QuantileOf, Without_observations_or_without_an_infinite_bucket_there_is_none) {
  EXPECT_FALSE(quantile(0.5, {}).has_value());
  EXPECT_FALSE(quantile(0.5, {{0.1, 0}, {kInfinity, 0}}).has_value());
  EXPECT_FALSE(quantile(0.5, {{0.1, 3}, {0.5, 4}}).has_value());
  EXPECT_FALSE(quantile(0.5, {{kInfinity, 4}}).has_value());
}

}  // namespace
}  // namespace updagent::health
