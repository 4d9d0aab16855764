#include "agent/release/gate_condition.hpp"

#include <gtest/gtest.h>

#include "support.hpp"

namespace updagent::release {
namespace {

using base::Code;
using testing::expect_error;

base::Result<Condition> condition(const std::string& text, GateType type = GateType::scrape) {
  return parse_condition(text, type, "gate", Code::usage);
}
void refused(const std::string& text, GateType type, const std::string& why) {
  expect_error(condition(text, type), Code::usage, "gate is not valid (expected " + why + ")");
}

base::Result<MetricSelector> selector(const std::string& text) {
  return parse_metric_selector(text, "gate", Code::usage);
}
void refused(const std::string& text, const std::string& why) {
  expect_error(selector(text), Code::usage, "gate is not valid (expected " + why + ")");
}

TEST(GateCondition, Is_a_metric_a_comparison_and_a_number) {
  const auto errors = condition("error_ratio <= 0.05").value();
  EXPECT_EQ(errors.metric, "error_ratio");
  EXPECT_EQ(errors.comparison, Comparison::less_or_equal);
  EXPECT_DOUBLE_EQ(errors.limit, 0.05);
  EXPECT_FALSE(errors.relative);
  const auto slow = condition("p99.9 <= 3.0 x active").value();
  EXPECT_EQ(slow.metric, "p99.9");
  EXPECT_DOUBLE_EQ(slow.limit, 3.0);
  EXPECT_TRUE(slow.relative);
  EXPECT_EQ(condition(" ratio>0.5 ").value().comparison, Comparison::greater);
  EXPECT_EQ(condition("value >= 1", GateType::prometheus).value().comparison,
            Comparison::greater_or_equal);
  EXPECT_DOUBLE_EQ(condition("memory < 512MiB", GateType::kernel).value().limit, 536'870'912.0);
  EXPECT_DOUBLE_EQ(condition("cpu < 2.25", GateType::kernel).value().limit, 2.25);
}

TEST(GateCondition, Says_what_it_expected) {
  refused("errors <= 1", GateType::scrape,
          "a metric first, one of error_ratio, ratio, p50, p95, p99, p99.9, got 'errors'");
  EXPECT_EQ(condition("error_ration <= 1").error().hint(), "did you mean 'error_ratio'?");
  refused("queue <= 1", GateType::prometheus, "a metric first, one of value, got 'queue'");
  refused("", GateType::prometheus, "a metric first, one of value, got ''");
  refused("ratio == 1", GateType::scrape, "'<=', '<', '>=' or '>' after 'ratio', got '=='");
  refused("ratio 1", GateType::scrape, "'<=', '<', '>=' or '>' after 'ratio', got '1'");
  for (const std::string number : {"", "-1", "1e3", "0x1", ".5", "1.", "inf", "nan", "5%", "1,5"})
    EXPECT_FALSE(condition("ratio <= " + number).has_value()) << number;
  refused("ratio <= 5%", GateType::scrape, "a number such as '3' or '0.05', got '5%'");
  refused("error_ratio <= 5", GateType::scrape, "a share from 0 to 1, 0.05 for 5 %, got '5'");
  refused("memory <= many", GateType::kernel, "a number or a size such as '512MiB', got 'many'");
  refused("ratio <= 2 x old", GateType::scrape,
          "nothing or 'x active' after the number, got 'ratio <= 2 x old'");
  refused("ratio <= 0 x active", GateType::scrape,
          "more than 0 times what the active one has, got 'ratio <= 0 x active'");
  for (const std::string metric :
       {"accepted_ratio", "cpu", "crashes", "descriptors", "oom_kills", "queue"})
    refused(metric + " <= 1 x active", GateType::kernel,
            "a number alone: '" + metric + "' is not compared, got '" + metric + " <= 1 x active'");
  refused("ratio <= " + std::string(200, '1'), GateType::scrape, "at most 128 bytes, got 209");
  refused("ratio <= " + std::string(100, '9'), GateType::scrape,
          "a number such as '3' or '0.05', got '" + std::string(100, '9') + "'");
}

TEST(GateCondition, Quantiles_have_two_digits_and_perhaps_one_more) {
  EXPECT_DOUBLE_EQ(quantile_of("p99").value(), 0.99);
  EXPECT_DOUBLE_EQ(quantile_of("p05").value(), 0.05);
  EXPECT_DOUBLE_EQ(quantile_of("p99.9").value(), 0.999);
  for (const std::string_view none :
       {"", "p", "p9", "p00", "p00.0", "p999", "p99.", "p99.99", "P99", "p9x", "ratio", "p100"})
    EXPECT_FALSE(quantile_of(none).has_value()) << none;
}

TEST(MetricSelector, Is_written_as_in_promql) {
  const auto parsed =
      selector(
          R"( http:requests_total { code =~ "5..|4\\.4" , method != 'HEAD', a!~"b+", c="\"\n",} )")
          .value();
  EXPECT_EQ(parsed.name, "http:requests_total");
  ASSERT_EQ(parsed.matchers.size(), 4U);
  using Kind = LabelMatcher::Kind;
  EXPECT_EQ(parsed.matchers[0].label, "code");
  EXPECT_EQ(parsed.matchers[0].kind, Kind::matches);
  EXPECT_EQ(parsed.matchers[0].value, "5..|4\\.4");
  EXPECT_EQ(parsed.matchers[1].kind, Kind::not_equal);
  EXPECT_EQ(parsed.matchers[1].value, "HEAD");
  EXPECT_EQ(parsed.matchers[2].kind, Kind::not_matches);
  EXPECT_EQ(parsed.matchers[3].kind, Kind::equal);
  EXPECT_EQ(parsed.matchers[3].value, "\"\n");
  EXPECT_TRUE(selector("a{}").value().matchers.empty());
}

TEST(MetricSelector, Says_what_it_expected) {
  refused("", "the name of a metric, such as 'http_requests_total', got ''");
  refused("9a", "the name of a metric, such as 'http_requests_total', got '9a'");
  refused("a b", "nothing behind the selector, got 'b'");
  refused("a{b:c=\"\"}", "'=', '!=', '=~' or '!~' after the label 'b', got ':c=\"\"}'");
  refused("a{=\"\"}", "the name of a label, got '=\"\"}'");
  refused("a{b=1}", "a value in quotes, got '1}'");
  refused("a{b=\"1}", "a quote at the end of a value, got '\"1}'");
  refused("a{b=\"1\" c=\"2\"}", "',' or '}' after a matcher, got 'c=\"2\"}'");
  refused("a{b=\"\\d\"}", "'\\\\', '\\\"' or '\\n' after a backslash, got '\\d\"}'");
  std::string many = "a{";
  for (int i = 0; i < 17; ++i) many += "b=\"\",";
  refused(many + "}", "at most 16 matchers, got more");
  refused(std::string(4097, 'a'), "at most 4096 bytes, got 4097");
}

TEST(MetricSelector, Takes_patterns_that_regcomp_takes_and_that_stay_small) {
  const auto pattern = [](const std::string& text) { return "a{b=~'" + text + "'}"; };
  EXPECT_OK(selector(pattern("")));
  EXPECT_OK(selector(pattern("5[0-9]{2}|(4|3)+x?")));
  EXPECT_OK(selector(pattern("[]+{9}]*[^]a]+")));
  EXPECT_FALSE(selector(pattern("a)(b")).has_value());
  EXPECT_FALSE(selector(pattern("[a")).has_value());
  EXPECT_FALSE(selector(pattern("(a")).has_value());
  refused(pattern("(a)\\\\1"), "a regular expression without back-references, got '(a)\\1'");
  EXPECT_OK(selector(pattern("a\\\\\\\\1")));
  std::string nested = "a";
  for (int i = 0; i < 40; ++i) nested = "(" + nested + "+)";
  const auto deep = selector(pattern(nested));
  ASSERT_FALSE(deep.has_value());
  EXPECT_EQ(deep.error().expected(), "fewer repetitions of repetitions");
  EXPECT_FALSE(selector(pattern("a" + std::string(100, '+'))).has_value());
  EXPECT_FALSE(selector(pattern("((a{99}){99}){99}")).has_value());
  EXPECT_FALSE(selector(pattern("(a{9,99999999999999999999}){2}")).has_value());
  refused(pattern(std::string(257, 'a')), "a regular expression of at most 256 bytes, got 257");
}

}  // namespace
}  // namespace updagent::release
