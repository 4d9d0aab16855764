#include "agent/release/semver.hpp"

#include <gtest/gtest.h>

#include "support.hpp"

namespace updagent::release {
namespace {

using testing::expect_error;

SemVer version(std::string_view text) {
  auto parsed = parse_semver(text);
  EXPECT_TRUE(parsed.has_value()) << text;
  return parsed ? *parsed : SemVer();
}

TEST(SemVer, Precedence_is_the_order_of_the_specifications_section_11) {
  const std::vector<std::string> ascending = {
      "0.9.9",      "1.0.0-alpha",  "1.0.0-alpha.1", "1.0.0-alpha.beta",
      "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1",
      "1.0.0",      "2.0.0",        "2.1.0",         "2.1.1",
      "2.1.10",     "10.0.0"};
  for (std::size_t i = 0; i < ascending.size(); ++i) {
    for (std::size_t j = 0; j < ascending.size(); ++j) {
      EXPECT_EQ(precedence(version(ascending[i]), version(ascending[j])), i <=> j)
          << ascending[i] << " and " << ascending[j];
    }
  }
}

TEST(SemVer, Numbers_stand_below_words_and_long_numbers_do_not_overflow) {
  EXPECT_TRUE(precedence(version("1.0.0-1"), version("1.0.0-a")) < 0);
  EXPECT_TRUE(precedence(version("1.0.0-99999999999999999999999"),
                         version("1.0.0-100000000000000000000000")) < 0);
  EXPECT_TRUE(precedence(version("1.0.0-B"), version("1.0.0-a")) < 0);  // ASCII order
  EXPECT_TRUE(precedence(version("1.0.0--"), version("1.0.0-1")) > 0);  // '-' is no number
}

TEST(SemVer, Build_metadata_has_no_precedence_but_stays_in_the_name) {
  EXPECT_TRUE(precedence(version("1.0.0+20130313144700"), version("1.0.0+exp.sha.5114f85")) == 0);
  EXPECT_EQ(version("1.0.0-rc.1+exp.sha.5114f85").text(), "1.0.0-rc.1+exp.sha.5114f85");
  EXPECT_EQ(version("1.0.0+21AF26D3---117B344092BD").text(), "1.0.0+21AF26D3---117B344092BD");
}

TEST(SemVer, The_specifications_valid_examples_are_read_back_the_same) {
  for (const std::string text :
       {"0.0.4", "1.2.3", "10.20.30", "1.1.2-prerelease+meta", "1.1.2+meta", "1.1.2+meta-valid",
        "1.0.0-alpha.beta.1", "1.0.0-alpha0.valid", "1.0.0-alpha.0valid", "1.0.0-rc.1+build.1",
        "1.2.3----RC-SNAPSHOT.12.9.1--.12+788", "1.0.0+0.build.1-rc.10000aaa-kk-0.1",
        "18446744073709551615.0.0", "1.0.0-0A.is.legal"})
    EXPECT_EQ(version(text).text(), text);
}

TEST(SemVer, The_specifications_invalid_examples_are_refused) {
  for (const std::string text : {"",
                                 "1",
                                 "1.2",
                                 "1.2.3-0123",
                                 "1.2.3-0123.0123",
                                 "1.1.2+.123",
                                 "+invalid",
                                 "-invalid",
                                 "alpha",
                                 "1.2.3.DEV",
                                 "1.0.0-alpha_beta",
                                 "1.0.0-alpha..1",
                                 "01.1.1",
                                 "1.01.1",
                                 "1.1.01",
                                 "1.2.3.4",
                                 "1.2-SNAPSHOT",
                                 "v1.2.3",
                                 "1.0.0-",
                                 "1.0.0+",
                                 "1.0.0+a+b",
                                 " 1.0.0",
                                 "1.0.0 ",
                                 "1.0.0-\xC3\xA4",
                                 "18446744073709551616.0.0",
                                 "-1.0.0",
                                 "1..0"}) {
    const auto parsed = parse_semver(text);
    ASSERT_FALSE(parsed.has_value()) << text;
    EXPECT_EQ(parsed.error().code(), base::Code::manifest_invalid);
    EXPECT_EQ(parsed.error().got(), "'" + text + "'");
    EXPECT_FALSE(parsed.error().expected().empty());
  }
}

TEST(SemVer, A_version_is_at_most_64_characters) {
  EXPECT_TRUE(parse_semver("1.0.0-" + std::string(58, 'a')).has_value());
  expect_error(parse_semver("1.0.0-" + std::string(59, 'a')), base::Code::manifest_invalid,
               "not a SemVer 2.0.0 version: longer than 64 characters (expected a version such as "
               "1.4.2 or 1.5.0-rc.1, got '1.0.0-" +
                   std::string(59, 'a') + "')");
}

TEST(SemVer, Requirements_hold_by_precedence) {
  const struct {
    std::string_view version, requirement;
    bool holds;
  } rows[] = {
      {"1.2.0", ">=1.2.0", true},
      {"1.1.9", ">=1.2.0", false},
      {"1.2.1", ">1.2.0", true},
      {"1.2.0", ">1.2.0", false},
      {"1.2.0", "<=1.2.0", true},
      {"1.2.1", "<=1.2.0", false},
      {"1.1.0", "<1.2.0", true},
      {"1.2.0", "<1.2.0", false},
      {"1.2.0", "=1.2.0", true},
      {"1.2.0", "1.2.0", true},
      {"1.2.1", "1.2.0", false},
      {"1.5.0", ">=1.0.0, <2.0.0", true},
      {"2.0.0", ">=1.0.0,<2.0.0", false},
      {"0.9.0", ">=1.0.0,<2.0.0", false},
      {"1.0.0-rc.1", ">=1.0.0", false},
      {"1.0.0", " >= 1.0.0 ", true},
      {"1.0.0", "", true},
  };
  for (const auto& row : rows) {
    const auto result = satisfies(version(row.version), row.requirement);
    ASSERT_TRUE(result.has_value()) << row.requirement;
    EXPECT_EQ(*result, row.holds) << row.version << " " << row.requirement;
  }
}

TEST(SemVer, A_requirement_that_can_not_be_read_is_refused_even_behind_one_that_fails) {
  for (const std::string text :
       {"~1.0.0", ">=1", ">=1.0.0,", ",", "latest", ">=1.0.0 <2.0.0", ">=3.0.0, x"})
    expect_error(satisfies(version("1.0.0"), text), base::Code::manifest_invalid,
                 "not a version requirement (expected one such as '>=1.0.0' or '>=1.2.0, <2.0.0', "
                 "got '" +
                     text + "')");
}

TEST(SemVer, App_names_are_plain_and_bounded) {
  for (const std::string_view name : {"shop", "0", "a.b_c-d", "shop2"})
    EXPECT_TRUE(is_app_name(name)) << name;
  EXPECT_TRUE(is_app_name(std::string(64, 'a')));
  EXPECT_FALSE(is_app_name(std::string(65, 'a')));
  for (const std::string_view name :
       {"", ".shop", "-shop", "_shop", "Shop", "a..b", "a/b", "sh op", "shöp", "shop\n", ".."})
    EXPECT_FALSE(is_app_name(name)) << name;
}

}  // namespace
}  // namespace updagent::release
