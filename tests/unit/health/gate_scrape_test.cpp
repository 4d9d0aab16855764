#include <gtest/gtest.h>

#include "tests/unit/health/gate_case.hpp"

namespace updagent::health {
namespace {

const std::string kTextHead = "200 text/plain; version=0.0.4\n";

std::string requests(int good, int bad) {
  return kTextHead + "# TYPE http_requests_total counter\nhttp_requests_total{code=\"200\"} " +
         std::to_string(good) + "\nhttp_requests_total{code=\"503\"} " + std::to_string(bad) + "\n";
}
// So many below 0.1 s, below 1 s, and all.
std::string durations(int fast, int slow, int all) {
  const std::string name = "http_request_duration_seconds";
  return kTextHead + name + "_bucket{le=\"0.1\"} " + std::to_string(fast) + "\n" + name +
         "_bucket{le=\"1.0\"} " + std::to_string(slow) + "\n" + name + "_bucket{le=\"+Inf\"} " +
         std::to_string(all) + "\n" + name + "_count " + std::to_string(all) + "\n";
}

class ScrapeGate : public GateCase {
 protected:
  void wants(const std::string& condition) {
    release::Gate one = gate(release::GateType::scrape, condition);
    one.url = url();
    // taken at its word: what we ask ourselves is not among these
    one.requests = R"(http_requests_total{path!="/metrics"})";
    one.latency = R"(http_request_duration_seconds{path!="/metrics"})";
    gates_ = {one};
  }
  // All that the page has.
  void wants_all(const std::string& condition, std::int64_t min_samples) {
    wants(condition);
    gates_[0].requests.clear();
    gates_[0].latency.clear();
    gates_[0].min_samples = min_samples;
  }
  // Each answer to one of our questions counts so much.
  void grows(const std::string& side, int begin, double each) {
    std::vector<std::string> all;
    for (int i = 0; i < 400; ++i) all.push_back(requests(begin + static_cast<int>(i * each), 0));
    pages(side, all);
  }
  void asks_every(int interval_ms) {
    probes_ = {http_probe(url())};
    probes_[0].interval = base::Milliseconds(interval_ms);
  }
};

// --- absolute

TEST_F(ScrapeGate, An_error_ratio_below_the_limit_passes_with_its_numbers) {
  pages("candidate", {requests(1000, 10), requests(1980, 30)});
  pages("active", {requests(0, 0), requests(500, 0)});
  wants("error_ratio <= 0.05");
  const GateReport report = first_report();
  EXPECT_EQ(report.status, GateStatus::passed);
  EXPECT_EQ(report.text, "error_ratio 0.02 (20 of 1000), expected <= 0.05");
  EXPECT_EQ(report.numbers["candidate"]["errors"], 20);
  EXPECT_EQ(report.numbers["candidate"]["requests"], 1000);
  EXPECT_EQ(report.numbers["active"]["requests"], 500);
  EXPECT_GE(report.numbers["window_ms"], 100);
  EXPECT_TRUE(judge_->standing().all_passed);
}

TEST_F(ScrapeGate, One_above_the_limit_is_a_verdict_that_names_gate_and_numbers) {
  pages("candidate", {requests(0, 0), requests(69, 31)});
  pages("active", {requests(0, 0)});
  wants("error_ratio <= 0.05");
  const Verdict against = verdict();
  EXPECT_EQ(against.reason, "gate 'g' failed: error_ratio 0.31 (31 of 100), expected <= 0.05");
  EXPECT_EQ(against.probe, "g");
  EXPECT_FALSE(against.healthy);
  EXPECT_EQ(reports_.back().in_a_row, 1);
}

TEST_F(ScrapeGate, With_too_few_samples_the_same_window_goes_on) {
  // 40 and 40 more and 40 more: only the third look has 100
  pages("candidate", {requests(0, 0), requests(40, 0), requests(80, 0), requests(118, 2)});
  pages("active", {requests(0, 0)});
  wants("error_ratio <= 0.05");
  static_cast<void>(run_to_reports(1));
  EXPECT_EQ(reports_.back().status, GateStatus::no_data);
  EXPECT_EQ(reports_.back().text, "40 of 100 samples");
  EXPECT_TRUE(judge_->standing().no_data);
  EXPECT_EQ(judge_->standing().waiting_for, "gate 'g': 40 of 100 samples");
  EXPECT_FALSE(run_to_reports(2).has_value());
  EXPECT_EQ(reports_.back().text, "error_ratio 0.01667 (2 of 120), expected <= 0.05");
}

TEST_F(ScrapeGate, A_window_begins_where_the_last_one_ended) {
  pages("candidate", {requests(0, 0), requests(100, 0), requests(150, 50), requests(250, 50)});
  pages("active", {requests(0, 0)});
  wants("error_ratio <= 0.05");
  gates_[0].failures = 2;
  EXPECT_FALSE(run_to_reports(3).has_value());
  EXPECT_EQ(reports_[1].text, "error_ratio 0.5 (50 of 100), expected <= 0.05");
  EXPECT_EQ(reports_[1].in_a_row, 1);
  EXPECT_EQ(reports_[2].text, "error_ratio 0 (0 of 100), expected <= 0.05");
  EXPECT_EQ(reports_[2].in_a_row, 0);
  EXPECT_EQ(reports_[2].in_total, 1);
}

TEST_F(ScrapeGate, Below_the_limit_of_failures_the_step_is_held_until_it_passes_again) {
  pages("candidate", {requests(0, 0), requests(50, 50), requests(150, 50)});
  pages("active", {requests(0, 0)});
  wants("error_ratio <= 0.05");
  gates_[0].failures = 2;
  EXPECT_FALSE(run_to_reports(1).has_value());
  EXPECT_FALSE(judge_->standing().all_passed);
  EXPECT_EQ(judge_->standing().waiting_for,
            "gate 'g' failed: error_ratio 0.5 (50 of 100), expected <= 0.05");
  EXPECT_FALSE(judge_->standing().no_data);
  EXPECT_FALSE(run_to_reports(2).has_value());
  EXPECT_TRUE(judge_->standing().all_passed);
}

TEST_F(ScrapeGate, Failures_in_total_count_over_all_steps) {
  pages("candidate", {requests(0, 0), requests(50, 50), requests(150, 50), requests(150, 50),
                      requests(200, 100)});
  pages("active", {requests(0, 0)});
  wants("error_ratio <= 0.05");
  gates_[0].failures = 5;
  gates_[0].max_failures = 2;
  EXPECT_FALSE(run_to_reports(2).has_value());
  judge_->begin_step();
  EXPECT_FALSE(judge_->standing().all_passed);
  EXPECT_EQ(verdict().reason,
            "gate 'g' failed 2 times in total: error_ratio 0.5 (50 of 100), expected <= 0.05");
}

TEST_F(ScrapeGate, Over_a_start_anew_a_window_says_nothing_and_another_begins) {
  pages("candidate", {requests(5000, 100), requests(190, 10), requests(285, 15)});
  pages("active", {requests(0, 0)});
  wants("error_ratio <= 0.05");
  gates_[0].on_no_data = release::OnNoData::fail;  // it is no silence
  const GateReport report = first_report();
  EXPECT_EQ(report.status, GateStatus::no_data);
  EXPECT_EQ(report.text,
            "a counter fell: its process was started anew, or several answer, each for itself");
  EXPECT_FALSE(run_to_reports(2).has_value());
  EXPECT_EQ(reports_[1].text, "error_ratio 0.05 (5 of 100), expected <= 0.05");
}

// In turns, each with its own counts: what one has more of than the other nobody has asked.
TEST_F(ScrapeGate, Workers_that_count_apart_neither_condemn_nor_bless) {
  std::vector<std::string> turns;
  for (int i = 0; i < 200; ++i)
    turns.push_back(i % 2 == 0 ? requests(10'010, 95) : requests(9900, 100));
  pages("candidate", turns);
  pages("active", {requests(0, 0)});
  wants("error_ratio <= 0.05");
  gates_[0].no_data_timeout = base::Milliseconds(1000);
  EXPECT_TRUE(verdict().reason.starts_with("gate 'g' has had no data for 1s: a counter fell"));
  for (const GateReport& report : reports_) EXPECT_EQ(report.status, GateStatus::no_data);
}

TEST_F(ScrapeGate, Nor_is_the_active_one_compared_over_a_start_anew) {
  pages("candidate", {requests(0, 0), requests(100, 0), requests(170, 30)});
  pages("active", {requests(5000, 5000), requests(5990, 5010), requests(100, 100)});
  wants("error_ratio <= 1.5 x active");
  static_cast<void>(verdict());
  EXPECT_EQ(reports_[1].numbers["baseline"], "earlier window");
  EXPECT_EQ(reports_[1].numbers["active"]["errors"], 10);
}

TEST_F(ScrapeGate, A_histogram_that_fell_is_no_window_either) {
  pages("candidate",
        {durations(1000, 1000, 1000), durations(0, 200, 200), durations(500, 700, 700)});
  pages("active", {durations(0, 0, 0)});
  wants("p50 <= 0.1");
  EXPECT_TRUE(first_report().text.starts_with("a counter fell"));
  EXPECT_FALSE(run_to_reports(2).has_value());
  EXPECT_EQ(reports_[1].status, GateStatus::passed);
}

TEST_F(ScrapeGate, What_is_counted_can_be_named) {
  const auto page = [](int all, int bad) {
    return kTextHead + "jobs_total{queue=\"mail\"} " + std::to_string(all) +
           "\njobs_total{queue=\"other\"} 100000\njobs_failed_total{queue=\"mail\",why=\"x\"} " +
           std::to_string(bad) + "\n";
  };
  pages("candidate", {page(0, 0), page(200, 50)});
  pages("active", {page(0, 0)});
  wants("error_ratio <= 0.05");
  gates_[0].requests = "jobs_total{queue=~\"m.*\"}";
  gates_[0].errors = "jobs_failed_total{queue=\"mail\"}";
  EXPECT_EQ(verdict().reason, "gate 'g' failed: error_ratio 0.25 (50 of 200), expected <= 0.05");
}

TEST_F(ScrapeGate, Any_two_counters_have_a_ratio) {
  const auto page = [](int hits, int all) {
    return kTextHead + "hits_total " + std::to_string(hits) + "\nlookups_total " +
           std::to_string(all) + "\n# EOF\n";
  };
  pages("candidate", {page(0, 0), page(100, 400)});
  pages("active", {page(0, 0)});
  wants("ratio >= 0.5");
  gates_[0].numerator = "hits_total";
  gates_[0].denominator = "lookups_total";
  EXPECT_EQ(verdict().reason, "gate 'g' failed: ratio 0.25 (100 of 400), expected >= 0.5");
}

// --- relative

TEST_F(ScrapeGate, Beside_a_version_that_fails_as_often_it_passes) {
  pages("candidate", {requests(0, 0), requests(70, 30)});
  pages("active", {requests(0, 0), requests(700, 300)});
  wants("error_ratio <= 1.5 x active");
  const GateReport report = first_report();
  EXPECT_EQ(report.status, GateStatus::passed);
  EXPECT_GT(report.numbers["p_value"], 0.5);
  EXPECT_EQ(report.numbers["baseline"], "window");
}

TEST_F(ScrapeGate, Beside_a_version_that_hardly_fails_it_is_condemned) {
  pages("candidate", {requests(0, 0), requests(70, 30)});
  pages("active", {requests(0, 0), requests(990, 10)});
  wants("error_ratio <= 1.5 x active");
  const std::string reason = verdict().reason;
  EXPECT_TRUE(
      reason.starts_with("gate 'g' failed: error_ratio 0.3 (30 of 100), the active one "
                         "0.01 (10 of 1000), p "))
      << reason;
  EXPECT_LT(reports_.back().numbers["p_value"], kAlpha);
}

// Rounded to an integer they were none, and no error is as good as it gets.
TEST_F(ScrapeGate, Absurd_counts_are_no_data) {
  const auto page = [](const std::string& count) {
    return kTextHead + "http_requests_total{code=\"200\"} " + count +
           "\nhttp_requests_total{code=\"503\"} " + count + "\n";
  };
  pages("candidate", {page("0"), page("1e19")});
  pages("active", {requests(0, 0), requests(1'000'000, 0)});
  wants("error_ratio <= 1.5 x active");
  EXPECT_EQ(first_report().text,
            "the page of metrics: the counter http_requests_total has no count");
}

TEST_F(ScrapeGate, Ten_requests_can_neither_condemn_nor_bless) {
  pages("candidate", {requests(0, 0), requests(0, 10)});
  pages("active", {requests(0, 0), requests(1000, 0)});
  wants("error_ratio <= 1.5 x active");
  gates_[0].no_data_timeout = base::Milliseconds(1000);
  EXPECT_EQ(verdict().reason, "gate 'g' has had no data for 1s: 10 of 100 samples");
}

TEST_F(ScrapeGate, Without_traffic_of_its_own_the_active_ones_last_window_stands_in) {
  pages("candidate", {requests(0, 0), requests(100, 0), requests(170, 30)});
  pages("active", {requests(0, 0), requests(990, 10), requests(990, 10)});
  wants("error_ratio <= 1.5 x active");
  static_cast<void>(verdict());
  EXPECT_EQ(reports_[0].numbers["baseline"], "window");
  EXPECT_EQ(reports_[1].numbers["baseline"], "earlier window");
  EXPECT_EQ(reports_[1].numbers["active"]["requests"], 1000);
}

TEST_F(ScrapeGate, Before_any_such_window_its_life_does) {
  pages("candidate", {requests(0, 0), requests(70, 30)});
  pages("active", {requests(99'000, 1000)});
  wants("error_ratio <= 1.5 x active");
  static_cast<void>(verdict());
  EXPECT_EQ(reports_[0].numbers["baseline"], "lifetime");
  EXPECT_EQ(reports_[0].numbers["active"]["errors"], 1000);
}

TEST_F(ScrapeGate, One_that_never_had_traffic_is_no_data) {
  pages("candidate", {requests(0, 0), requests(100, 0)});
  pages("active", {requests(3, 0)});
  wants("error_ratio <= 1.5 x active");
  EXPECT_EQ(first_report().text, "the active one has 3 of 100 samples in all its life");
}

TEST_F(ScrapeGate, Without_an_active_one_what_is_relative_is_skipped_once) {
  has_active_ = false;
  wants("error_ratio <= 1.5 x active");
  const GateReport report = first_report();
  EXPECT_EQ(report.status, GateStatus::skipped);
  EXPECT_EQ(report.text, "there is no active one to compare with");
  EXPECT_TRUE(judge_->standing().all_passed);
}

// --- our own questions

TEST_F(ScrapeGate, What_only_we_have_asked_is_no_sample) {
  grows("candidate", 0, 1);
  pages("active", {requests(0, 0)});
  asks_every(50);
  wants_all("error_ratio <= 0.05", 2);
  gates_[0].no_data_timeout = base::Milliseconds(1000);
  EXPECT_EQ(
      verdict().reason,
      "gate 'g' has had no data for 1s: 0 of 2 samples, without what may be our own questions");
}

TEST_F(ScrapeGate, Nor_is_it_one_of_a_quantile) {
  std::vector<std::string> all;
  for (int i = 0; i < 400; ++i) all.push_back(durations(i, i, i));
  pages("candidate", all);
  pages("active", {durations(0, 0, 0)});
  asks_every(50);
  wants_all("p50 <= 3", 2);
  gates_[0].no_data_timeout = base::Milliseconds(1000);
  EXPECT_NE(verdict().reason.find("0 of 2 samples"), std::string::npos);
}

TEST_F(ScrapeGate, A_start_anew_makes_no_samples_of_them) {
  std::vector<std::string> all;
  for (int i = 0; i < 1000; ++i) all.push_back(requests(i < 20 ? 5000 + i : i - 20, 0));
  pages("candidate", all);
  pages("active", {requests(0, 0)});
  asks_every(10);
  wants_all("error_ratio <= 0.05", 20);
  gates_[0].window = base::Milliseconds(500);
  gates_[0].no_data_timeout = base::Milliseconds(2000);
  EXPECT_NE(verdict().reason.find(" of 20 samples, without what may be our own questions"),
            std::string::npos);
}

TEST_F(ScrapeGate, Users_beside_them_are) {
  grows("candidate", 0, 3);
  pages("active", {requests(0, 0)});
  asks_every(50);
  wants_all("error_ratio <= 0.05", 10);
  EXPECT_FALSE(run([this] { return judge_ && judge_->standing().all_passed; }).has_value());
}

TEST_F(ScrapeGate, Where_the_page_counts_less_than_we_have_asked_it_does_not_count_ours) {
  grows("candidate", 0, 0.5);
  pages("active", {requests(0, 0)});
  asks_every(20);
  wants_all("error_ratio <= 0.05", 10);
  EXPECT_FALSE(run([this] { return judge_ && judge_->standing().all_passed; }).has_value());
}

TEST_F(ScrapeGate, An_active_one_that_only_we_ask_is_nothing_to_compare_with) {
  grows("candidate", 0, 100);
  grows("active", 5000, 1);
  wants_all("error_ratio <= 1.5 x active", 1);
  EXPECT_EQ(first_report().numbers["baseline"], "lifetime");
}

// --- quantiles

TEST_F(ScrapeGate, A_quantile_is_compared_in_seconds) {
  pages("candidate", {durations(0, 0, 0), durations(500, 1000, 1000)});
  pages("active", {durations(0, 0, 0)});
  wants("p95 <= 0.5");
  EXPECT_EQ(verdict().reason, "gate 'g' failed: p95 0.91 s (of 1000), expected <= 0.5");
}

TEST_F(ScrapeGate, A_quantile_needs_enough_beyond_it) {
  pages("candidate", {durations(0, 0, 0), durations(499, 499, 499)});
  pages("active", {durations(0, 0, 0)});
  wants("p99 <= 0.5");
  EXPECT_EQ(first_report().text, "499 of 500 samples");
}

TEST_F(ScrapeGate, Three_times_the_active_ones_quantile_is_the_limit) {
  pages("candidate", {durations(0, 0, 0), durations(0, 1000, 1000)});
  pages("active", {durations(0, 0, 0), durations(1000, 1000, 1000)});
  wants("p50 <= 3.0 x active");
  EXPECT_EQ(verdict().reason,
            "gate 'g' failed: p50 0.55 s, the active one 0.05 s, expected <= 3 x active");
}

TEST_F(ScrapeGate, Past_the_highest_bound_nothing_is_known_to_be_below_a_limit) {
  pages("candidate", {durations(0, 0, 0), durations(0, 0, 1000)});
  pages("active", {durations(0, 0, 0)});
  wants("p50 <= 3");
  const GateReport report = first_report();
  EXPECT_EQ(report.status, GateStatus::no_data);
  EXPECT_EQ(report.text, "p50 is past the highest bound of the histogram, 1 s");
}

TEST_F(ScrapeGate, Past_the_highest_bound_may_be_enough_to_fail) {
  pages("candidate", {durations(0, 0, 0), durations(0, 0, 1000)});
  pages("active", {durations(0, 0, 0)});
  wants("p50 <= 0.5");
  EXPECT_EQ(verdict().reason, "gate 'g' failed: p50 at least 1 s (of 1000), expected <= 0.5");
}

TEST_F(ScrapeGate, Where_the_active_one_is_past_it_too_nothing_is_known_to_be_above_a_limit) {
  pages("candidate", {durations(0, 0, 0), durations(0, 1000, 1000)});
  pages("active", {durations(0, 0, 0), durations(0, 0, 1000)});
  wants("p95 <= 0.8 x active");
  const GateReport report = first_report();
  EXPECT_EQ(report.status, GateStatus::no_data);
  EXPECT_EQ(report.text, "the active one's p95 is past the highest bound of the histogram, 1 s");
}

TEST_F(ScrapeGate, Nor_to_be_below_one_from_below) {
  pages("candidate", {durations(0, 0, 0), durations(0, 0, 1000)});
  pages("active", {durations(0, 0, 0), durations(0, 1000, 1000)});
  wants("p95 >= 1.5 x active");
  EXPECT_EQ(first_report().text, "p95 is past the highest bound of the histogram, 1 s");
}

TEST_F(ScrapeGate, Nor_to_be_below_a_number) {
  pages("candidate", {durations(0, 0, 0), durations(0, 0, 1000)});
  pages("active", {durations(0, 0, 0)});
  wants("p50 >= 3");
  EXPECT_EQ(first_report().text, "p50 is past the highest bound of the histogram, 1 s");
}

// --- no data

TEST_F(ScrapeGate, A_page_that_can_not_be_had_is_no_data_and_never_a_pass) {
  pages(
      "candidate",
      {"503 text/plain\n", "200 text/html\n<html>\n", requests(0, 0) + "# EOF\nx 1\n",
       "200 application/openmetrics-text; version=1.0.0\nx 1\n", requests(0, 0), requests(100, 0)});
  pages("active", {requests(0, 0)});
  wants("error_ratio <= 0.05");
  EXPECT_FALSE(run([this] { return judge_ && judge_->standing().all_passed; }).has_value());
  ASSERT_EQ(reports_.size(), 5U);
  EXPECT_EQ(reports_[0].text, "the page of metrics: HTTP 503, expected 200");
  EXPECT_NE(reports_[1].text.find("line 1 is no sample of a metric"), std::string::npos);
  EXPECT_NE(reports_[2].text.find("nothing after '# EOF'"), std::string::npos);
  EXPECT_NE(reports_[3].text.find("cut short"), std::string::npos);
  EXPECT_EQ(reports_[4].status, GateStatus::passed);
}

TEST_F(ScrapeGate, No_data_is_a_failure_at_once_where_that_is_wanted) {
  pages("candidate", {"503 text/plain\n"});
  pages("active", {requests(0, 0)});
  wants("error_ratio <= 0.05");
  gates_[0].on_no_data = release::OnNoData::fail;
  EXPECT_EQ(verdict().reason, "gate 'g' has no data: the page of metrics: HTTP 503, expected 200");
}

TEST_F(ScrapeGate, A_page_that_hangs_is_no_data) {
  pages("candidate", {"hang"});
  pages("active", {requests(0, 0)});
  wants("error_ratio <= 0.05");
  gates_[0].timeout = base::Milliseconds(200);
  EXPECT_EQ(first_report().text, "the page of metrics: no answer within 200ms");
}

TEST_F(ScrapeGate, A_page_without_the_metric_says_which_one) {
  pages("candidate", {kTextHead + "up 1\n"});
  pages("active", {kTextHead + "up 1\n"});
  wants("error_ratio <= 0.05");
  EXPECT_EQ(first_report().text, "the page has no series of http_requests_total");
}

TEST_F(ScrapeGate, Requests_without_a_status_do_not_pass_for_good_ones) {
  pages("candidate",
        {kTextHead + "http_requests_total 0\n", kTextHead + "http_requests_total 500\n"});
  pages("active", {kTextHead + "http_requests_total 0\n"});
  wants("error_ratio <= 0.05");
  EXPECT_EQ(first_report().text,
            "http_requests_total has no label code, status or status_code with a status of HTTP: "
            "name what failed with 'errors'");
}

TEST_F(ScrapeGate, Nor_does_a_label_that_says_it_in_words) {
  for (const std::string label :
       {"status=\"error\"", "code=\"INTERNAL\"", "code=\"14\"", "status=\"5\"", "code=\"5000\""}) {
    judge_.reset();
    reports_.clear();
    server_.reset();
    const std::string series = kTextHead + "http_requests_total{" + label + "} ";
    pages("candidate", {series + "0\n", series + "500\n"});
    pages("active", {series + "0\n"});
    wants("error_ratio <= 0.05");
    EXPECT_EQ(first_report().status, GateStatus::no_data) << label;
  }
}

TEST_F(ScrapeGate, A_class_of_statuses_is_one) {
  const auto page = [](int good, int bad) {
    return kTextHead + "http_requests_total{status=\"2xx\"} " + std::to_string(good) +
           "\nhttp_requests_total{status=\"5XX\"} " + std::to_string(bad) + "\n";
  };
  pages("candidate", {page(0, 0), page(75, 25)});
  pages("active", {page(0, 0)});
  wants("error_ratio <= 0.05");
  EXPECT_EQ(first_report().text, "error_ratio 0.25 (25 of 100), expected <= 0.05");
}

TEST_F(ScrapeGate, A_counter_of_errors_that_no_page_has_does_not_pass_for_0) {
  pages("candidate", {requests(0, 0), requests(500, 0)});
  pages("active", {requests(0, 0)});
  wants("error_ratio <= 0.05");
  gates_[0].errors = "http_eror_total";
  EXPECT_EQ(first_report().text, "no page has http_eror_total, not even with 0");
}

TEST_F(ScrapeGate, Nor_does_a_label_that_no_series_has) {
  pages("candidate", {requests(0, 0), requests(400, 100)});
  pages("active", {requests(0, 0)});
  wants("error_ratio <= 0.05");
  gates_[0].errors = R"(http_requests_total{cod=~"5..",method!="HEAD"})";
  EXPECT_EQ(first_report().text,
            "no page has http_requests_total with the label cod, not even with 0");
}

TEST_F(ScrapeGate, A_label_that_is_wanted_empty_or_other_than_something_may_be_missing) {
  pages("candidate", {requests(0, 0), requests(400, 100)});
  pages("active", {requests(0, 0)});
  wants("error_ratio <= 0.5");
  gates_[0].errors = R"(http_requests_total{code=~"5..",method!="HEAD",path=~"|/a",zone=""})";
  EXPECT_EQ(first_report().text, "error_ratio 0.2 (100 of 500), expected <= 0.5");
}

TEST_F(ScrapeGate, One_that_the_active_page_has_may_be_missing) {
  pages("candidate", {requests(0, 0), requests(500, 0)});
  pages("active", {requests(0, 0) + "http_errors_total 3\n"});
  wants("error_ratio <= 0.05");
  gates_[0].errors = "http_errors_total";
  EXPECT_EQ(first_report().text, "error_ratio 0 (0 of 500), expected <= 0.05");
}

TEST_F(ScrapeGate, A_series_that_stands_twice_or_has_no_count_is_no_data) {
  pages("candidate", {requests(1, 1) + "http_requests_total{code=\"200\"} 3\n",
                      kTextHead + "http_requests_total{code=\"200\"} NaN\n"});
  pages("active", {requests(0, 0)});
  wants("error_ratio <= 0.05");
  EXPECT_FALSE(run_to_reports(2).has_value());
  EXPECT_EQ(reports_[0].text, "the page of metrics: a series of http_requests_total stands twice");
  EXPECT_EQ(reports_[1].text, "the page of metrics: the counter http_requests_total has no count");
}

TEST_F(ScrapeGate, A_new_step_is_not_judged_by_what_was_counted_before_it) {
  pages("candidate", {requests(0, 0), requests(100, 0), requests(100, 400), requests(600, 400)});
  pages("active", {requests(0, 0)});
  wants("error_ratio <= 0.05");
  EXPECT_FALSE(run_to_reports(1).has_value());
  judge_->begin_step();
  EXPECT_FALSE(judge_->standing().all_passed);
  EXPECT_FALSE(run_to_reports(2).has_value());
  EXPECT_EQ(reports_[1].text, "error_ratio 0 (0 of 500), expected <= 0.05");
}

TEST_F(ScrapeGate, What_is_no_condition_or_selector_is_refused) {
  wants("error_ratio");
  JudgeSetup setup;
  setup.gates = gates_;
  EXPECT_FALSE(GateJudge::make(std::move(setup), nullptr, nullptr).has_value());
  wants("error_ratio <= 0.05");
  gates_[0].requests = "a{";
  JudgeSetup other;
  other.gates = gates_;
  EXPECT_FALSE(GateJudge::make(std::move(other), nullptr, nullptr).has_value());
}

}  // namespace
}  // namespace updagent::health
