#include "tests/unit/config/support.hpp"

namespace updagent::config {
namespace {

using namespace test;
using Variables = std::vector<std::pair<std::string, std::string>>;

class EnvironmentFile : public ::testing::Test {
 protected:
  base::Result<Variables> read(const std::string& content, mode_t mode = 0600) const {
    return read_environment_file(node_.write("env", content, mode));
  }
  Node node_;
};

TEST_F(EnvironmentFile, Has_names_and_values_in_order) {
  const auto variables = read("B=2\nA=1\nEMPTY=\nWITH=a=b c\n");
  ASSERT_TRUE(variables) << variables.error().line();
  EXPECT_EQ(*variables, (Variables{{"B", "2"}, {"A", "1"}, {"EMPTY", ""}, {"WITH", "a=b c"}}));
}

TEST_F(EnvironmentFile, Skips_blank_lines_and_comments) {
  EXPECT_EQ(read("# one\n\n  ; two\n \t\nA=1 # not a comment\n").value(),
            (Variables{{"A", "1 # not a comment"}}));
  EXPECT_EQ(read("").value(), Variables{});
}

TEST_F(EnvironmentFile, Needs_no_line_end_at_the_end_and_takes_those_of_windows) {
  EXPECT_EQ(read("A=1\r\nB=2").value(), (Variables{{"A", "1"}, {"B", "2"}}));
}

TEST_F(EnvironmentFile, Trims_around_an_unquoted_value_and_keeps_a_quoted_one) {
  EXPECT_EQ(read(" A =  x y  \nB=' x '\nC=\" y \"  \n").value(),
            (Variables{{"A", "x y"}, {"B", " x "}, {"C", " y "}}));
}

TEST_F(EnvironmentFile, Takes_backslashes_as_systemd_does) {
  EXPECT_EQ(read(R"(A="a\"b\\c\$d\n"
B='a\nb'
C=a\ b\\c
)")
                .value(),
            (Variables{{"A", R"(a"b\c$d\n)"}, {"B", R"(a\nb)"}, {"C", R"(a b\c)"}}));
}

TEST_F(EnvironmentFile, Takes_the_last_value_of_a_name) {
  EXPECT_EQ(read("A=1\nB=2\nA=3\n").value(), (Variables{{"B", "2"}, {"A", "3"}}));
}

TEST_F(EnvironmentFile, With_a_bad_line_is_refused_without_showing_it) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"secret", "has no '='"},
      {"=secret", "has no usable name"},
      {"1A=secret", "has no usable name"},
      {"A-B=secret", "has no usable name"},
      {"export A=secret", "begins with 'export'"},
      {"A=\"secret", "has no closing quote"},
      {"A='secret", "has no closing quote"},
      {"A='secret' x", "goes on after the closing quote"},
      {"A=\"secret\"x", "goes on after the closing quote"},
      {"A=secret\\", "ends in a backslash"},
      {"A=\"secret\\", "ends in a backslash"},
      {"A=secret\xff", "has bytes that are no UTF-8 text"},
      {std::string("A=secret\0x", 10), "has bytes that are no UTF-8 text"},
  };
  for (const auto& [line, message] : cases) {
    const auto variables = read("OK=1\n" + line + "\n");
    EXPECT_INVALID(variables);
    EXPECT_NE(variables.error().message().find("' line 2 " + message), std::string::npos)
        << variables.error().line();
    EXPECT_EQ(variables.error().line().find("secret"), std::string::npos);
    EXPECT_EQ(variables.error().expected(), "NAME=value");
  }
}

TEST_F(EnvironmentFile, That_others_may_read_is_refused_with_the_chmod_line) {
  for (const mode_t mode : {0644U, 0640U, 0604U}) {
    const auto variables = read("A=1\n", mode);
    EXPECT_INVALID(variables);
    EXPECT_EQ(variables.error().expected(), "mode 0600");
    EXPECT_EQ(variables.error().hint(), "chmod 600 " + node_.file("env"));
  }
}

TEST_F(EnvironmentFile, That_is_missing_or_too_large_is_refused) {
  EXPECT_INVALID(read_environment_file(node_.file("none")));
  EXPECT_INVALID(read(std::string(kMaxEnvironmentFileBytes + 1, '#')));
}

}  // namespace
}  // namespace updagent::config
