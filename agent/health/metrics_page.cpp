#include "agent/health/metrics_page.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include "agent/base/text.hpp"
#include "agent/release/gate_condition.hpp"

namespace updagent::health {
namespace {

using base::Code;
using base::Error;
using base::ok;
using base::Result;
using base::Status;

constexpr const char* kDefaultRequests = "http_requests_total";
constexpr const char* kDefaultLatency = "http_request_duration_seconds";
constexpr std::string_view kBucket = "_bucket";
constexpr std::string_view kBound = "le";
constexpr std::array<std::string_view, 3> kStatusLabels = {"code", "status", "status_code"};
// What a double counts exactly. (NaN is no count either.)
constexpr double kMaxCount = 9'007'199'254'740'992.0;
constexpr char kBetween = '\x1f';  // name and value of a label in a key; no label has it by chance

Result<MetricMatch> match_of(const release::Gate& gate, const std::string& text, const char* key,
                             std::string_view suffix = "") {
  UPD_ASSIGN(release::MetricSelector selector,
             release::parse_metric_selector(
                 text, std::string("'") + key + "' of the gate '" + gate.name + "'",
                 Code::manifest_invalid));
  selector.name += suffix;
  return MetricMatch::make(std::move(selector));
}

const std::string& or_default(const std::string& text, const std::string& otherwise) {
  return text.empty() ? otherwise : text;
}

// "503", "5xx", "5XX".
bool is_http_status(std::string_view text) {
  const auto is_digit_or_x = [](char c) { return (c >= '0' && c <= '9') || c == 'x' || c == 'X'; };
  return text.size() == 3 && text[0] >= '1' && text[0] <= '5' && is_digit_or_x(text[1]) &&
         is_digit_or_x(text[2]);
}

// Nothing where no label says how it ended, or in words of its own ("error", "INTERNAL"): that none
// of those begins with 5 proves nothing.
std::optional<bool> is_server_error(const Sample& sample) {
  for (const std::string_view label : kStatusLabels)
    if (const std::string_view status = sample.label(label); is_http_status(status))
      return status.front() == '5';
  return std::nullopt;
}

std::string key_of(const Sample& sample, std::string_view without) {
  std::string key;
  for (const Label& label : sample.labels) {
    if (label.name == without || label.value.empty()) continue;
    key.append(label.name).append(1, kBetween).append(label.value).append(1, kBetween);
  }
  return key;
}

std::optional<double> bound_of(std::string_view text) {
  if (text == "+Inf" || text == "Inf") return std::numeric_limits<double>::infinity();
  if (text.starts_with('+')) text.remove_prefix(1);
  double bound = 0;
  const char* begin = text.data();
  const char* end = begin + text.size();
  const auto [stopped, problem] = std::from_chars(begin, end, bound);
  if (problem != std::errc() || stopped != end || std::isnan(bound)) return std::nullopt;
  return bound;
}

}  // namespace

Result<WantedMetrics> wanted_metrics(const release::Gate& gate,
                                     const release::Condition& condition) {
  WantedMetrics wanted;
  const bool is_quantile = release::quantile_of(condition.metric).has_value();
  // one with matchers is taken at its word; what `ratio` counts are no requests
  wanted.may_count_ours =
      condition.metric != "ratio" &&
      (is_quantile ? gate.latency : gate.requests).find('{') == std::string::npos;
  if (is_quantile) {
    UPD_ASSIGN(wanted.latency,
               match_of(gate, or_default(gate.latency, kDefaultLatency), "latency", kBucket));
    return wanted;
  }
  if (condition.metric == "ratio") {
    UPD_ASSIGN(wanted.whole, match_of(gate, gate.denominator, "denominator"));
    UPD_ASSIGN(wanted.part, match_of(gate, gate.numerator, "numerator"));
    return wanted;
  }
  UPD_ASSIGN(wanted.whole, match_of(gate, or_default(gate.requests, kDefaultRequests), "requests"));
  if (!gate.errors.empty()) {
    UPD_ASSIGN(wanted.part, match_of(gate, gate.errors, "errors"));
  }
  return wanted;
}

Counted counted(const MetricsPage& before, const MetricsPage& after) {
  Counted counted;
  counted.part = increase(before.part, after.part);
  counted.latency = increase(before.latency, after.latency);
  counted.whole =
      after.latency.empty() ? increase(before.whole, after.whole) : samples(counted.latency);
  counted.fell = fell(before.part, after.part) || fell(before.whole, after.whole) ||
                 fell(before.latency, after.latency);
  return counted;
}

Counted counted(const MetricsPage& life) {
  return counted({}, life);
}

PageReader::PageReader(std::shared_ptr<const WantedMetrics> wanted)
    : wanted_(std::move(wanted)), parser_([this](const Sample& sample) { return add(sample); }) {}

Status PageReader::end(std::string_view content_type) {
  return parser_.finish(content_type.starts_with("application/openmetrics-text"));
}

Status PageReader::add(const Sample& sample) {
  if (wanted_->latency && (*wanted_->latency)(sample)) return add_bucket(sample);
  if (wanted_->whole && (*wanted_->whole)(sample)) UPD_TRY(keep(sample, "", page_.whole));
  return add_part(sample);
}

Status PageReader::add_part(const Sample& sample) {
  if (!wanted_->whole) return ok();
  if (wanted_->part) {
    // that none is an error must be known from that there are some which could be
    page_.has_part = page_.has_part || wanted_->part->could_mean(sample);
    return (*wanted_->part)(sample) ? keep(sample, "", page_.part) : ok();
  }
  if (!(*wanted_->whole)(sample)) return ok();
  const auto error = is_server_error(sample);
  page_.has_part = page_.has_part || error.has_value();
  return error.value_or(false) ? keep(sample, "", page_.part) : ok();
}

Status PageReader::add_bucket(const Sample& sample) {
  const auto bound = bound_of(sample.label(kBound));
  if (!bound)
    return Error(Code::probe_failed, "a bucket of " + std::string(sample.name) + " has no bound")
        .expected("a number as its label 'le'");
  return keep(sample, kBound, page_.latency[*bound]);
}

Status PageReader::keep(const Sample& sample, std::string_view without, CounterSet& into) {
  if (++series_ > kMaxSeries)
    return Error(Code::probe_failed, "the gate looks at more than " + std::to_string(kMaxSeries) +
                                         " series of the page");
  if (!(sample.value >= 0 && sample.value <= kMaxCount))
    return Error(Code::probe_failed, "the counter " + std::string(sample.name) + " has no count");
  if (!into.emplace(key_of(sample, without), sample.value).second)
    return Error(Code::probe_failed, "a series of " + std::string(sample.name) + " stands twice");
  return ok();
}

}  // namespace updagent::health
