// The counters of one page that one gate looks at.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "agent/base/error.hpp"
#include "agent/health/metric_match.hpp"
#include "agent/health/probe_run.hpp"
#include "agent/health/window.hpp"
#include "agent/release/rollout.hpp"

namespace updagent::health {

// Of a page of 8 MiB a selector that means too much would otherwise keep all.
inline constexpr std::size_t kMaxSeries = 50'000;

// What to read: either a ratio of counters or a histogram.
struct WantedMetrics {
  std::optional<MetricMatch> whole;  // requests, denominator
  std::optional<MetricMatch>
      part;  // errors, numerator; nothing: those of `whole` with a status of 5..
  std::optional<MetricMatch> latency;  // by the name of its buckets
  // Nothing in the selector of requests leaves our own questions out.
  bool may_count_ours = false;
};
// With the defaults that gates.hpp names. Code::manifest_invalid for a selector that is none.
base::Result<WantedMetrics> wanted_metrics(const release::Gate& gate,
                                           const release::Condition& condition);

struct MetricsPage {
  CounterSet whole;
  CounterSet part;
  BucketSet latency;
  bool has_part = false;  // a series that `part` could mean, or one of `whole` with a status
};

// What was counted: in a window, or in a life.
struct Counted {
  double part = 0;
  double whole = 0;  // of a histogram: all observations
  Buckets latency;
  bool fell = false;  // a counter did: both pages are not of one count
};
Counted counted(const MetricsPage& before, const MetricsPage& after);
Counted counted(const MetricsPage& life);

class PageReader : public PageSink {
 public:
  explicit PageReader(std::shared_ptr<const WantedMetrics> wanted);
  base::Status take(std::string_view bytes) override { return parser_.feed(bytes); }
  base::Status end(std::string_view content_type) override;
  MetricsPage take_page() { return std::move(page_); }

 private:
  base::Status add(const Sample& sample);
  base::Status add_part(const Sample& sample);
  base::Status add_bucket(const Sample& sample);
  base::Status keep(const Sample& sample, std::string_view without, CounterSet& into);

  std::shared_ptr<const WantedMetrics> wanted_;
  MetricsPage page_;
  std::size_t series_ = 0;
  MetricsParser parser_;
};

}  // namespace updagent::health
