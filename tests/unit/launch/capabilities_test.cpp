#include "agent/launch/capabilities.hpp"

#include <gtest/gtest.h>
#include <linux/capability.h>

#include <vector>

namespace updagent::launch {
namespace {

TEST(Capabilities, Are_read_by_name_in_any_case) {
  const std::vector<std::string> names = {"CAP_NET_BIND_SERVICE", "cap_kill",
                                          "CAP_CHECKPOINT_RESTORE"};
  const auto set = parse_capabilities(names);
  ASSERT_TRUE(set.has_value()) << set.error().line();
  EXPECT_EQ(*set, capability_bit(CAP_NET_BIND_SERVICE) | capability_bit(CAP_KILL) |
                      capability_bit(CAP_CHECKPOINT_RESTORE));
  EXPECT_EQ(capability_names(*set), "CAP_KILL, CAP_NET_BIND_SERVICE, CAP_CHECKPOINT_RESTORE");
}

TEST(Capabilities, An_unknown_name_is_refused_with_the_nearest_one) {
  const std::vector<std::string> names = {"CAP_NET_BIND_SERVCE"};
  const auto set = parse_capabilities(names);
  ASSERT_FALSE(set.has_value());
  EXPECT_EQ(set.error().code(), base::Code::config_invalid);
  EXPECT_EQ(set.error().hint(), "did you mean 'CAP_NET_BIND_SERVICE'?");
}

TEST(Capabilities, The_empty_set_and_numbers_from_the_future_have_words_too) {
  EXPECT_EQ(capability_names(kNoCapabilities), "none");
  EXPECT_EQ(capability_names(capability_bit(60)), "capability 60");
}

TEST(Capabilities, The_kernels_last_one_is_in_the_table_or_beyond) {
  EXPECT_GE(last_capability(), CAP_AUDIT_READ);
  EXPECT_LT(last_capability(), 64);
}

}  // namespace
}  // namespace updagent::launch
