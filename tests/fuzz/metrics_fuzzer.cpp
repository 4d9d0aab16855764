// A service is not trusted: any page of metrics must end in samples within their bounds or an
// error, the same in whatever pieces it comes, and what gates make of it in numbers that are some.
// The same bytes as the answer of a Prometheus server must be a number or an error.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "agent/base/text.hpp"
#include "agent/health/metrics_page.hpp"
#include "agent/health/metrics_text.hpp"
#include "agent/health/prometheus_answer.hpp"
#include "agent/release/gate_condition.hpp"

namespace {

namespace base = updagent::base;
namespace health = updagent::health;
namespace release = updagent::release;

constexpr std::size_t kPiece = 13;  // so that lines, names and escapes are cut anywhere

void must(bool condition) {
  if (!condition) std::abort();
}

void check(const health::Sample& sample) {
  must(!sample.name.empty());
  must(sample.labels.size() <= health::kMaxLabels);
  must(std::ranges::is_sorted(sample.labels, {}, &health::Label::name));
  for (const health::Label& label : sample.labels) {
    must(!label.name.empty() && label.value.size() <= health::kMaxLabelBytes);
    must(sample.label(label.name) == label.value);
  }
}

// All samples as one text, or the error.
std::string read(std::string_view page, std::size_t piece) {
  std::string all;
  health::MetricsParser parser([&](const health::Sample& sample) {
    check(sample);
    all.append(sample.name).append(1, '\n');
    return base::ok();
  });
  for (std::size_t at = 0; at < page.size(); at += std::min(piece, page.size() - at))
    if (const auto fed = parser.feed(page.substr(at, piece)); !fed) return fed.error().line();
  const auto finished = parser.finish(false);
  return finished ? all : finished.error().line();
}

release::Gate gate_of() {
  release::Gate gate;
  gate.type = release::GateType::scrape;
  gate.errors = "http_requests_total{code=~\"5..|4[0-9]+\"}";
  return gate;
}

void judge(std::string_view page, const std::string& metric) {
  release::Condition condition;
  condition.metric = metric;
  auto wanted = health::wanted_metrics(gate_of(), condition);
  must(wanted.has_value());
  health::PageReader reader(std::make_shared<const health::WantedMetrics>(std::move(*wanted)));
  if (!reader.take(page) || !reader.end("")) return;
  const health::Counted counted = health::counted(reader.take_page());
  must(counted.part >= 0 && counted.whole >= 0);
  if (const auto quantile = health::quantile(0.99, counted.latency))
    must(!std::isnan(quantile->value));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view page(reinterpret_cast<const char*>(data), size);
  const std::string whole = read(page, size + 1);
  must(whole == read(page, kPiece));
  judge(page, "error_ratio");
  judge(page, "p99");
  const auto value = health::value_of_answer(page);
  must(value ? !std::isnan(*value) : !value.error().line().empty());
  const std::string error = health::error_of_answer(page);
  must(base::printable(error) == error);
  return 0;
}
