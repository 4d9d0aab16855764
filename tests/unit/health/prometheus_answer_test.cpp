#include "agent/health/prometheus_answer.hpp"

#include <gtest/gtest.h>

namespace updagent::health {
namespace {

// The bodies are those of Prometheus 2.42 to the queries named above them.

std::string reason(std::string_view body) {
  const auto value = value_of_answer(body);
  return value ? "" : value.error().line();
}

TEST(PrometheusAnswer, A_vector_of_one_series_is_a_value) {
  // sum(rate(http_requests_total{version="1.2.0",code=~"5.."}[5s]))
  EXPECT_DOUBLE_EQ(
      *value_of_answer(
          R"({"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1795907406.118,"0.6946"]}]}})"),
      0.6946);
}

TEST(PrometheusAnswer, A_scalar_is_a_value) {
  // scalar(sum(up)), 1/3
  EXPECT_DOUBLE_EQ(
      *value_of_answer(
          R"({"status":"success","data":{"resultType":"scalar","result":[1795907406.366,"1"]}})"),
      1);
  EXPECT_DOUBLE_EQ(
      *value_of_answer(
          R"({"status":"success","data":{"resultType":"scalar","result":[1795907406.442,"0.3333333333333333"]}})"),
      1.0 / 3);
}

TEST(PrometheusAnswer, Infinite_is_a_value_that_no_limit_holds) {
  // sum(up)/0
  EXPECT_GT(
      *value_of_answer(
          R"({"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1795907406.411,"+Inf"]}]}})"),
      1e300);
}

TEST(PrometheusAnswer, No_series_is_no_value) {
  // up{job="none"}
  EXPECT_EQ(reason(R"({"status":"success","data":{"resultType":"vector","result":[]}})"),
            "the query has no series");
}

TEST(PrometheusAnswer, NaN_is_no_value) {
  // 0/0
  EXPECT_EQ(
      reason(
          R"({"status":"success","data":{"resultType":"scalar","result":[1795907406.306,"NaN"]}})"),
      "the query's value is NaN");
}

TEST(PrometheusAnswer, Several_series_must_be_aggregated) {
  // rate(http_requests_total[5s])
  EXPECT_EQ(
      reason(
          R"({"status":"success","data":{"resultType":"vector","result":[{"metric":{"code":"200","instance":"127.0.0.1:19391","job":"demo","version":"1.2.0"},"value":[1795907406.153,"7.016"]},{"metric":{"code":"500","instance":"127.0.0.1:19391","job":"demo","version":"1.2.0"},"value":[1795907406.153,"0.7016"]}]}})"),
      "the query has 2 series where one is needed: aggregate them, as with sum()");
}

TEST(PrometheusAnswer, Other_kinds_of_results_are_named) {
  // "text", up[5s]
  EXPECT_EQ(
      reason(
          R"({"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"up"},"values":[[1795907403.645,"1"]]}]}})"),
      "the query's result is a matrix (expected a vector of one series, or a scalar)");
  EXPECT_EQ(
      reason(
          R"({"status":"success","data":{"resultType":"string","result":[1795907406.425,"text"]}})"),
      "the query's result is a string (expected a vector of one series, or a scalar)");
}

TEST(PrometheusAnswer, The_error_of_a_query_is_named) {
  // sum(
  EXPECT_EQ(
      error_of_answer(
          R"({"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": 1:5: parse error: unclosed left parenthesis"})"),
      "bad_data: invalid parameter \"query\": 1:5: parse error: unclosed left parenthesis");
  EXPECT_EQ(error_of_answer("<html>"), "");
  EXPECT_EQ(error_of_answer("{}"), "");
}

TEST(PrometheusAnswer, What_is_no_answer_is_refused) {
  for (const char* body :
       {"", "<html>", "[]", "{}", R"({"status":"error"})", R"({"status":"success"})",
        R"({"status":"success","data":{"resultType":"vector"}})",
        R"({"status":"success","data":{"resultType":"vector","result":[1]}})",
        R"({"status":"success","data":{"resultType":"vector","result":[{"value":[1,2]}]}})",
        R"({"status":"success","data":{"resultType":"scalar","result":[1,"one"]}})",
        R"({"status":"success","data":{"resultType":"scalar","result":[1,"1 "]}})"})
    EXPECT_FALSE(value_of_answer(body).has_value()) << body;
}

TEST(FillQuery, The_words_of_a_side_are_filled_in_and_others_stay) {
  const QueryWords words{"demo", "1.2.0", 7, base::Milliseconds(10'000)};
  EXPECT_EQ(
      fill_query("sum(rate(x{app=\"$app\",v=\"$version\",g=\"$generation\"}[$window]))", words),
      "sum(rate(x{app=\"demo\",v=\"1.2.0\",g=\"7\"}[10s]))");
  EXPECT_EQ(fill_query("$application $ $$app $", words), "$application $ $demo $");
  EXPECT_EQ(fill_query("", words), "");
}

}  // namespace
}  // namespace updagent::health
