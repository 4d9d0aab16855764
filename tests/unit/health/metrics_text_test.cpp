#include "agent/health/metrics_text.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdio>

#include "agent/health/metric_match.hpp"

namespace updagent::health {
namespace {

// "name{a=x,b=y} 1", one a line.
struct Read {
  std::string samples;
  std::string problem;
};
std::string text_of(const Sample& sample) {
  std::string text(sample.name);
  for (const Label& label : sample.labels) text += "," + label.name + "=" + label.value;
  std::array<char, 32> number{};
  static_cast<void>(std::snprintf(number.data(), number.size(), " %g\n", sample.value));
  return text + number.data();
}
Read read(std::string_view page, bool is_openmetrics = false, std::size_t piece = SIZE_MAX) {
  Read read;
  MetricsParser parser([&](const Sample& sample) {
    read.samples += text_of(sample);
    return base::ok();
  });
  const auto failed = [&](const base::Status& status) {
    if (!status) read.problem = status.error().line();
    return !status;
  };
  for (std::size_t at = 0; at < page.size(); at += std::min(piece, page.size() - at))
    if (failed(parser.feed(page.substr(at, piece)))) return read;
  failed(parser.finish(is_openmetrics));
  return read;
}

constexpr std::string_view kText = R"(# HELP http_requests_total All of them, with \n in it.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{ code = "400" , method = "post" , }    3

# a comment
	something_weird{problem="division by zero"} +Inf -3982045
no_labels -12.5e-3
empty_labels{} NaN
escaped{path="C:\\DIR\\FILE.TXT",error="Cannot\n\"FILE\"",other="\d"} 1.458255915e9
http:rule 7
)";

TEST(MetricsText, Samples_are_read_with_labels_escapes_and_timestamps) {
  const Read page = read(kText);
  EXPECT_EQ(page.problem, "");
  EXPECT_EQ(page.samples,
            "http_requests_total,code=200,method=post 1027\n"
            "http_requests_total,code=400,method=post 3\n"
            "something_weird,problem=division by zero inf\n"
            "no_labels -0.0125\n"
            "empty_labels nan\n"
            "escaped,error=Cannot\n\"FILE\",other=\\d,path=C:\\DIR\\FILE.TXT 1.45826e+09\n"
            "http:rule 7\n");
}

TEST(MetricsText, A_page_may_come_in_any_pieces) {
  const Read whole = read(kText);
  for (const std::size_t piece : {1UL, 2UL, 7UL, 64UL})
    EXPECT_EQ(read(kText, false, piece).samples, whole.samples) << piece;
}

constexpr std::string_view kOpen = R"(# TYPE foo counter
# UNIT foo_seconds seconds
foo_total{code="200"} 17.0 1520879607.789 # {trace_id="KOO5S4vxi0o"} 0.67
foo_created{code="200"} 1520430000.123
# TYPE bar_created gauge
bar_created 5
# TYPE lat histogram
lat_bucket{le="0.1"} 8 # {} 0.054
lat_bucket{le="+Inf"} 17
lat_count 17
lat_sum 324789.3
lat_created 1520430000
# EOF
)";

TEST(MetricsText, OpenMetrics_is_read_without_exemplars_and_created_samples) {
  const Read page = read(kOpen, true);
  EXPECT_EQ(page.problem, "");
  EXPECT_EQ(page.samples,
            "foo_total,code=200 17\nbar_created 5\nlat_bucket,le=0.1 8\nlat_bucket,le=+Inf 17\n"
            "lat_count 17\nlat_sum 324789\n");
}

TEST(MetricsText, OpenMetrics_without_its_end_was_cut_short) {
  EXPECT_NE(read("foo_total 1\n", true).problem.find("cut short"), std::string::npos);
  EXPECT_EQ(read("foo_total 1\n", false).problem, "");
  EXPECT_NE(read("# EOF\nfoo_total 1\n", true).problem.find("nothing after"), std::string::npos);
}

TEST(MetricsText, What_is_no_sample_is_refused_with_its_line) {
  for (const std::string line : {"<html>",
                                 "name",
                                 "name{",
                                 "name{a}",
                                 "name{a=b} 1",
                                 "name{a=\"b} 1",
                                 "name{a=\"b\"}",
                                 "name{a=\"b\" c=\"d\"} 1",
                                 "name{a=\"1\",a=\"2\"} 1",
                                 "name{,} 1",
                                 "name x",
                                 "name 1 x",
                                 "name 1 2 3",
                                 "name 0x10",
                                 "name +-1",
                                 "name 1\r",
                                 "1name 1",
                                 "name{1a=\"\"} 1",
                                 "name- 1",
                                 "name 1e999"}) {
    const Read page = read("good 1\n" + line + "\n");
    EXPECT_TRUE(page.problem.starts_with("line 2 is no sample of a metric"))
        << line << page.problem;
  }
  EXPECT_NE(read(std::string("a\0b 1\n", 6)).problem, "");
}

TEST(MetricsText, Everything_is_bounded) {
  std::string labels;
  for (std::size_t i = 0; i <= kMaxLabels; ++i) labels += "l" + std::to_string(i) + "=\"\",";
  EXPECT_NE(read("name{" + labels + "} 1\n").problem.find("labels"), std::string::npos);
  const std::string value(kMaxLabelBytes + 1, 'x');
  EXPECT_NE(read("name{a=\"" + value + "\"} 1\n").problem.find("in a value"), std::string::npos);
  const std::string line(kMaxMetricsLine + 1, '#');
  EXPECT_NE(read(line).problem.find("in a line"), std::string::npos);
  EXPECT_NE(read(std::string(kMaxMetricsLines + 1, '\n')).problem.find("lines"), std::string::npos);
  std::string page;
  while (page.size() <= kMaxMetricsBytes) page += std::string(kMaxMetricsLine - 1, '#') + "\n";
  EXPECT_NE(read(page).problem.find("larger"), std::string::npos);
}

TEST(MetricsText, The_one_who_reads_may_end_it) {
  MetricsParser parser(
      [](const Sample&) { return base::Error(base::Code::probe_failed, "enough"); });
  const base::Status status = parser.feed("a 1\nb 2\n");
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().message(), "enough");
}

// --- selectors

using Kind = release::LabelMatcher::Kind;

bool matches(const std::vector<release::LabelMatcher>& matchers, std::string_view line) {
  auto match = MetricMatch::make({"http_requests_total", matchers});
  EXPECT_TRUE(match.has_value());
  bool found = false;
  MetricsParser parser([&](const Sample& sample) {
    found = (*match)(sample);
    return base::ok();
  });
  EXPECT_TRUE(parser.feed(line).has_value());
  EXPECT_TRUE(parser.finish(false).has_value());
  return found;
}

TEST(MetricMatch, The_name_must_be_the_same) {
  EXPECT_TRUE(matches({}, "http_requests_total{code=\"200\"} 1"));
  EXPECT_FALSE(matches({}, "http_requests 1"));
}

TEST(MetricMatch, All_matchers_must_hold) {
  const std::string_view line = R"(http_requests_total{code="503",method="GET"} 1)";
  EXPECT_TRUE(matches({{"code", Kind::equal, "503"}, {"method", Kind::not_equal, "HEAD"}}, line));
  EXPECT_FALSE(matches({{"code", Kind::equal, "503"}, {"method", Kind::not_equal, "GET"}}, line));
}

TEST(MetricMatch, A_regular_expression_is_for_the_whole_value) {
  const std::string_view line = R"(http_requests_total{code="503"} 1)";
  EXPECT_TRUE(matches({{"code", Kind::matches, "5.."}}, line));
  EXPECT_FALSE(matches({{"code", Kind::matches, "5"}}, line));
  EXPECT_FALSE(matches({{"code", Kind::matches, "4..|50"}}, line));
  EXPECT_TRUE(matches({{"code", Kind::matches, "4..|50."}}, line));
  EXPECT_TRUE(matches({{"code", Kind::not_matches, "4.."}}, line));
}

TEST(MetricMatch, A_label_that_is_not_there_is_empty) {
  const std::string_view line = "http_requests_total 1";
  EXPECT_TRUE(matches({{"code", Kind::equal, ""}}, line));
  EXPECT_TRUE(matches({{"code", Kind::matches, ".*"}}, line));
  EXPECT_FALSE(matches({{"code", Kind::matches, ".+"}}, line));
}

TEST(MetricMatch, What_is_no_regular_expression_is_refused) {
  EXPECT_FALSE(MetricMatch::make({"a", {{"b", Kind::matches, "("}}}).has_value());
}

}  // namespace
}  // namespace updagent::health
