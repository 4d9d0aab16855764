#include "agent/health/statistics.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace updagent::health {
namespace {

struct Tail {
  std::int64_t k;
  std::int64_t n;
  double p;
  double expected;
};
// Sums of exact fractions: sum(comb(n, i) * p**i * (1 - p)**(n - i) for i in range(k, n + 1)) of
// Python's integers. Those of a billion with 60 decimal digits, factorials by Stirling's series.
constexpr Tail kTails[] = {
    {5, 10, 0.5, 0.623046875},
    {9, 10, 0.5, 0.0107421875},
    {31, 41, 0.5, 0.0007252455070556607},
    {2, 2, 1.0 / 67, 0.00022276676319893073},
    {3, 100, 0.05, 0.8817370188148791},
    {20, 100, 0.05, 1.0522953420147268e-07},
    {150, 1000, 0.1, 4.4894428594500086e-07},
    {60, 1000, 0.1, 0.9999975414686313},
    {1000, 1000, 0.99, 4.317124741065825e-05},
    {1, 1000, 0.001, 0.6323045752290359},
    {500'050'000, 1'000'000'000, 0.5, 0.0007827861305419038},
    {1'004'000, 1'000'000'000, 0.001, 0.00003180435592898097},
};

TEST(Binomial, The_tail_is_that_of_exact_fractions) {
  for (const Tail& tail : kTails) {
    const double tolerance = tail.n > 1000 ? 1e-4 : 1e-9;
    EXPECT_NEAR(binomial_at_least(tail.k, tail.n, tail.p) / tail.expected, 1, tolerance)
        << tail.k << " of " << tail.n << " at " << tail.p;
  }
}

TEST(Binomial, Both_tails_and_their_overlap_are_one) {
  for (const std::int64_t k : {0, 1, 7, 20, 39, 40}) {
    const double at_least = binomial_at_least(k, 40, 0.3);
    const double below = k == 0 ? 0 : binomial_at_most(k - 1, 40, 0.3);
    EXPECT_NEAR(at_least + below, 1, 1e-12) << k;
  }
}

TEST(Binomial, The_ends_are_certain) {
  EXPECT_EQ(binomial_at_least(0, 10, 0.5), 1);
  EXPECT_EQ(binomial_at_least(11, 10, 0.5), 0);
  EXPECT_EQ(binomial_at_least(1, 10, 0), 0);
  EXPECT_EQ(binomial_at_least(10, 10, 1), 1);
  EXPECT_EQ(binomial_at_most(10, 10, 0.5), 1);
  EXPECT_EQ(binomial_at_least(0, 0, 0.5), 1);
}

TEST(Binomial, More_trials_than_it_counts_are_cut_in_proportion) {
  const double p = binomial_at_least(kMaxTrials * 2, kMaxTrials * 4, 0.5);
  EXPECT_NEAR(p, 0.5, 0.01);
}

// --- two rates

TEST(TwoRates, The_same_rate_is_no_evidence) {
  EXPECT_GT(p_value_above({50, 1000}, {50, 1000}, 1), 0.4);
  EXPECT_GT(p_value_above({0, 1000}, {0, 1000}, 1), 0.99);
}

TEST(TwoRates, Three_times_the_rate_condemns_at_one_time_and_not_at_three) {
  EXPECT_LT(p_value_above({150, 1000}, {50, 1000}, 1), 1e-12);
  EXPECT_GT(p_value_above({150, 1000}, {50, 1000}, 3), 0.4);
}

// Of 41 events 31 were the candidate's, with as many requests: P(X >= 31 | 41, 1/2).
TEST(TwoRates, It_is_the_binomial_of_all_events) {
  EXPECT_NEAR(p_value_above({31, 500}, {10, 500}, 1), 0.0007252455070556607, 1e-12);
}

// One of 67 connections is the candidate's: two errors, both its own, are (1/67)^2.
TEST(TwoRates, A_small_share_of_the_traffic_makes_its_events_more_telling) {
  EXPECT_NEAR(p_value_above({2, 100}, {0, 6600}, 1), 0.00022276676319893073, 1e-12);
}

TEST(TwoRates, Ten_requests_that_all_fail_beside_a_good_version_are_evidence_and_one_is_none) {
  EXPECT_LT(p_value_above({10, 10}, {10, 1000}, 1.5), 1e-6);
  EXPECT_GT(p_value_above({1, 10}, {10, 1000}, 1.5), 0.1);
}

TEST(TwoRates, A_rate_that_must_not_fall_is_tested_from_below) {
  EXPECT_LT(p_value_below({100, 1000}, {900, 1000}, 0.9), 1e-12);
  EXPECT_GT(p_value_below({880, 1000}, {900, 1000}, 0.9), 0.5);
}

}  // namespace
}  // namespace updagent::health
