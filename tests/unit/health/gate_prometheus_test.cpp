#include <gtest/gtest.h>

#include "tests/unit/health/gate_case.hpp"

namespace updagent::health {
namespace {

// As Prometheus 2.42 answers.
std::string value(const std::string& text) {
  return R"(200 application/json
{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1795907406.118,")" +
         text + R"("]}]}})";
}
const std::string kNoSeries = R"(200 application/json
{"status":"success","data":{"resultType":"vector","result":[]}})";
const std::string kBadQuery = R"(400 application/json
{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": 1:5: parse error: unclosed left parenthesis"})";

class PrometheusGate : public GateCase {
 protected:
  void wants(const std::string& condition) {
    release::Gate one = gate(release::GateType::prometheus, condition);
    one.url = url();
    one.query = "sum(rate(http_requests_total{version=\"$version\",code=~\"5..\"}[$window]))";
    gates_ = {one};
  }
};

TEST_F(PrometheusGate, A_value_is_compared) {
  pages("candidate", {value("0.02"), value("0.7")});
  pages("active", {value("0.01")});
  wants("value <= 0.05");
  EXPECT_EQ(verdict().reason, "gate 'g' failed: value 0.7, expected <= 0.05");
  EXPECT_EQ(reports_[0].status, GateStatus::passed);
  EXPECT_EQ(reports_[0].numbers["candidate"], 0.02);
}

TEST_F(PrometheusGate, A_relative_one_is_compared_with_the_same_query_of_the_active_one) {
  pages("candidate", {value("0.02"), value("0.04")});
  pages("active", {value("0.01")});
  wants("value <= 3 x active");
  EXPECT_EQ(verdict().reason,
            "gate 'g' failed: value 0.04, the active one 0.01, expected <= 3 x active");
}

TEST_F(PrometheusGate, Once_it_has_none_the_active_ones_last_value_stands_in) {
  pages("candidate", {value("0.02")});
  pages("active", {value("0.01"), kNoSeries});
  wants("value <= 3 x active");
  EXPECT_FALSE(run_to_reports(2).has_value());
  EXPECT_EQ(reports_[0].numbers["baseline"], "window");
  EXPECT_EQ(reports_[1].numbers["baseline"], "earlier window");
}

// Errors of no requests at all, for one: any multiple of it would be enough.
TEST_F(PrometheusGate, An_infinite_value_of_the_active_one_is_none_to_compare_with) {
  pages("candidate", {value("0.9"), value("0.9"), value("+Inf")});
  pages("active", {value("+Inf"), value("0.1")});
  wants("value <= 3 x active");
  gates_[0].failures = 2;
  EXPECT_EQ(verdict().reason,
            "gate 'g' failed 2 times in a row: value inf, the active one 0.1, "
            "expected <= 3 x active");
  EXPECT_EQ(reports_[0].status, GateStatus::no_data);
  EXPECT_EQ(reports_[0].text, "of the active one: the query's value is infinite");
}

TEST_F(PrometheusGate, No_series_NaN_and_refusals_are_no_data_with_their_reason) {
  pages("candidate", {kNoSeries, value("NaN"), kBadQuery, "503 text/plain\nService Unavailable",
                      "200 text/html\n<html>", value("0.01")});
  pages("active", {value("0.01")});
  wants("value <= 0.05");
  EXPECT_FALSE(run([this] { return judge_ && judge_->standing().all_passed; }).has_value());
  ASSERT_EQ(reports_.size(), 6U);
  for (std::size_t i = 0; i < 5; ++i) EXPECT_EQ(reports_[i].status, GateStatus::no_data) << i;
  EXPECT_EQ(reports_[0].text, "the query has no series");
  EXPECT_EQ(reports_[1].text, "the query's value is NaN");
  EXPECT_EQ(reports_[2].text,
            "HTTP 400, expected 200: bad_data: invalid parameter \"query\": 1:5: parse error: "
            "unclosed left parenthesis");
  EXPECT_EQ(reports_[3].text, "HTTP 503, expected 200");
  EXPECT_NE(reports_[4].text.find("not valid JSON"), std::string::npos) << reports_[4].text;
}

TEST_F(PrometheusGate, A_server_that_hangs_is_waited_for_no_longer_than_its_limit_allows) {
  pages("candidate", {"hang"});
  pages("active", {"hang"});
  wants("value <= 0.05");
  gates_[0].timeout = base::Milliseconds(200);
  gates_[0].no_data_timeout = base::Milliseconds(500);
  EXPECT_EQ(verdict().reason, "gate 'g' has had no data for 500ms: no answer within 200ms");
  EXPECT_EQ(reports_[0].status, GateStatus::no_data);
}

TEST_F(PrometheusGate, An_answer_without_end_is_cut_off) {
  pages("candidate", {"200 application/json\n" + std::string(2'000'000, ' ')});
  pages("active", {value("1")});
  wants("value <= 0.05");
  EXPECT_EQ(first_report().text, "the server's answer is too large for one number");
}

TEST_F(PrometheusGate, A_server_that_is_not_there_is_no_data) {
  wants("value <= 0.05");
  gates_[0].url = "http://127.0.0.1:1/";
  EXPECT_EQ(first_report().text, "connection refused");
}

}  // namespace
}  // namespace updagent::health
