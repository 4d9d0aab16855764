#include "agent/base/failpoints.hpp"

#include <gtest/gtest.h>
#include <signal.h>

#include <cerrno>

#include "tests/unit/base/roles.hpp"
#include "tests/unit/base/test_directory.hpp"

namespace updagent::base {
namespace {

ChildResult pass(const std::string& rules, const std::vector<std::string>& names) {
  std::vector<std::string> words = {"pass"};
  words.insert(words.end(), names.begin(), names.end());
  return test::run_role(words, {{"UPDAGENT_FAILPOINTS", rules}});
}

TEST(Failpoints, Without_rules_nothing_happens) {
  EXPECT_EQ(pass("", {"a", "a"}).output, "a 0\na 0\n");
}

TEST(Failpoints, An_errno_is_given_the_first_time_only) {
  EXPECT_EQ(pass("a=ENOSPC", {"a", "b", "a"}).output,
            "a " + std::to_string(ENOSPC) + "\nb 0\na 0\n");
}

TEST(Failpoints, A_number_names_the_time_and_zero_is_every_time) {
  const std::string eio = std::to_string(EIO);
  EXPECT_EQ(pass("a#2=EIO", {"a", "a", "a"}).output, "a 0\na " + eio + "\na 0\n");
  EXPECT_EQ(pass("a#0=EIO", {"a", "a"}).output, "a " + eio + "\na " + eio + "\n");
}

TEST(Failpoints, Rules_stand_side_by_side) {
  EXPECT_EQ(pass("a=EIO;b=EXDEV;", {"a", "b"}).output,
            "a " + std::to_string(EIO) + "\nb " + std::to_string(EXDEV) + "\n");
}

TEST(Failpoints, Kill_is_SIGKILL_at_that_place) {
  EXPECT_EQ(pass("b#2=kill", {"a", "b", "b"}).signal_number, SIGKILL);
  EXPECT_TRUE(pass("b#2=kill", {"a", "b"}).success());
}

TEST(Failpoints, A_misspelt_rule_lets_no_test_pass) {
  EXPECT_EQ(pass("a=ENOSUCH", {"b"}).signal_number, SIGABRT);
  EXPECT_EQ(pass("a", {"b"}).signal_number, SIGABRT);
}

TEST(Failpoints, The_trace_has_a_line_for_each_place_that_was_passed) {
  const test::TestDirectory directory;
  const ChildResult result =
      test::run_role({"pass", "a", "b", "a"}, {{"UPDAGENT_FAILPOINTS_TRACE", directory.path("t")}});
  EXPECT_TRUE(result.success());
  EXPECT_EQ(directory.read("t"), "a\nb\na\n");
}

}  // namespace
}  // namespace updagent::base
