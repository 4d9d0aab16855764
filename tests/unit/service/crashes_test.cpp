#include "agent/service/crashes.hpp"

#include <gtest/gtest.h>

namespace updagent::service {
namespace {

constexpr std::int64_t kStartUs = 1'000'000'000;
constexpr std::int64_t kCalmUs = kCalm.count() * 1000;

TEST(Crashes, Each_one_doubles_the_wait_up_to_the_last) {
  Crashes crashes;
  base::Milliseconds expected = kFirstBackoff;
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(crashes.another(kStartUs + i), std::min(expected, kLastBackoff)) << i;
    expected *= 2;
  }
}

TEST(Crashes, A_calm_forgets_those_before) {
  Crashes crashes;
  for (int i = 0; i < 4; ++i) crashes.another(kStartUs);
  EXPECT_GT(crashes.another(kStartUs + kCalmUs), kFirstBackoff);
  EXPECT_EQ(crashes.another(kStartUs + 2 * kCalmUs + 1), kFirstBackoff);
  EXPECT_EQ(crashes.in_a_row(), 1);
}

TEST(Crashes, A_loop_is_said_once_in_a_row) {
  Crashes crashes;
  int said = 0;
  for (int i = 0; i < 20; ++i) {
    crashes.another(kStartUs);
    if (crashes.is_loop()) ++said;
  }
  EXPECT_EQ(said, 1);
}

TEST(Crashes, The_first_one_ever_is_the_first_of_a_row_even_just_after_a_boot) {
  Crashes crashes;
  EXPECT_EQ(crashes.another(1), kFirstBackoff);
  EXPECT_EQ(crashes.in_a_row(), 1);
}

}  // namespace
}  // namespace updagent::service
