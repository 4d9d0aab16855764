#include "agent/launch/memory_check.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <vector>

#include "agent/base/unique_fd.hpp"
#include "tests/unit/base/test_directory.hpp"

namespace updagent::launch {
namespace {

using test::TestDirectory;

constexpr std::uint64_t kMib = 1024 * 1024;

TEST(MemoryCheck, A_start_that_does_not_fit_is_refused_with_both_figures) {
  const base::Status fits = check_memory({300 * kMib, "MemAvailable"}, {300 * kMib, "x"});
  EXPECT_TRUE(fits.has_value());
  const base::Status refused = check_memory({200 * kMib, "memory.max of /sys/fs/cgroup/shop"},
                                            {300 * kMib, "PSS of 4 processes"});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code(), base::Code::no_space);
  EXPECT_EQ(
      refused.error().line(),
      "there is not enough memory for one more generation (expected at least the 300 MiB that "
      "the active one uses (PSS of 4 processes), got 200 MiB (memory.max of "
      "/sys/fs/cgroup/shop))");
  EXPECT_NE(refused.error().hint().find("'restart'"), std::string::npos);
}

TEST(MemoryCheck, The_nodes_reserve_is_kept_free) {
  const MemoryAtHand at_hand{300 * kMib, "MemAvailable"};
  EXPECT_TRUE(check_memory(at_hand, {200 * kMib, "x"}, 100 * kMib).has_value());
  const base::Status refused = check_memory(at_hand, {200 * kMib, "x"}, 101 * kMib);
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().expected().find("and a reserve of 101 MiB"), std::string::npos);
  EXPECT_FALSE(check_memory(at_hand, {200 * kMib, "x"}, ~std::uint64_t{0}).has_value());
}

TEST(MemoryCheck, Version_2_leaves_the_least_of_max_and_high_and_counts_cache_as_free) {
  const TestDirectory cgroup;
  EXPECT_FALSE(left_under(cgroup.path(), true).has_value()) << "no controller, no limit";
  cgroup.write("memory.current", "104857600\n");
  cgroup.write("memory.max", "max\n");
  cgroup.write("memory.high", "max\n");
  EXPECT_FALSE(left_under(cgroup.path(), true).has_value());
  cgroup.write("memory.max", "209715200\n");
  cgroup.write("memory.stat", "anon 1\nfile 3\ninactive_file 52428800\nactive_file 2\n");
  auto left = left_under(cgroup.path(), true);
  ASSERT_TRUE(left.has_value());
  EXPECT_EQ(left->bytes, 150 * kMib);
  EXPECT_EQ(left->limited_by, "memory.max of " + cgroup.path());
  cgroup.write("memory.high", "52428800\n");
  left = left_under(cgroup.path(), true);
  EXPECT_EQ(left->bytes, 0U) << "above its limit is nothing left, not a huge number";
  EXPECT_EQ(left->limited_by, "memory.high of " + cgroup.path());
}

TEST(MemoryCheck, Version_1_has_other_names_for_the_same) {
  const TestDirectory cgroup;
  cgroup.write("memory.usage_in_bytes", "104857600\n");
  cgroup.write("memory.limit_in_bytes", "209715200\n");
  cgroup.write("memory.stat", "cache 5\ntotal_inactive_file 10485760\n");
  const auto left = left_under(cgroup.path(), false);
  ASSERT_TRUE(left.has_value());
  EXPECT_EQ(left->bytes, 110 * kMib);
}

TEST(MemoryCheck, This_machine_has_some_and_not_more_than_all) {
  const auto at_hand = memory_at_hand();
  ASSERT_TRUE(at_hand.has_value()) << at_hand.error().line();
  EXPECT_GT(at_hand->bytes, 0U);
  EXPECT_LE(at_hand->bytes, static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
                                static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)));
  EXPECT_FALSE(at_hand->limited_by.empty());
}

TEST(MemoryCheck, Processes_count_with_their_share_and_the_dead_with_nothing) {
  constexpr pid_t kNobody = 1 << 22;  // above pid_max
  const std::array<pid_t, 1> own = {::getpid()};
  const std::array<pid_t, 2> more = {::getpid(), kNobody};
  const MemoryInUse one = memory_in_use(nullptr, own);
  EXPECT_EQ(one.measured_as, "PSS of 1 process");
  EXPECT_GT(one.bytes, 100'000U);
  const MemoryInUse two = memory_in_use(nullptr, more);
  EXPECT_EQ(two.measured_as, "PSS of 2 processes");
  EXPECT_LT(two.bytes, 2 * one.bytes);
}

TEST(Descriptors, Each_that_is_opened_counts_once_for_each_process_and_the_dead_with_nothing) {
  constexpr pid_t kNobody = 1 << 22;
  const std::array<pid_t, 1> own = {::getpid()};
  const std::array<pid_t, 1> nobody = {kNobody};
  const std::array<pid_t, 3> three = {::getpid(), kNobody, ::getpid()};
  const std::uint64_t before = descriptors_in_use(own).value();
  EXPECT_GE(before, 3U);
  std::vector<base::UniqueFd> more;
  for (int i = 0; i < 10; ++i) more.emplace_back(::dup(STDOUT_FILENO));
  EXPECT_EQ(descriptors_in_use(own), before + 10);
  EXPECT_EQ(descriptors_in_use(three), 2 * (before + 10));
  EXPECT_FALSE(descriptors_in_use(nobody).has_value());
  EXPECT_FALSE(descriptors_in_use({}).has_value());
}

TEST(Descriptors, Of_very_many_processes_the_first_ones_are_looked_at) {
  const std::vector<pid_t> crowd(kMaxCountedProcesses + 50, ::getpid());
  const std::uint64_t each = descriptors_in_use(std::array{::getpid()}).value();
  EXPECT_EQ(descriptors_in_use(crowd), each * kMaxCountedProcesses);
}

}  // namespace
}  // namespace updagent::launch
