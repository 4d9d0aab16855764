// Reads a page of metrics, sample by sample: the Prometheus text format 0.0.4 and OpenMetrics 1.0
// text, which is a narrower form of it with "# EOF" at its end. Timestamps and exemplars are read
// over, and so are the `_created` samples of OpenMetrics.
//
// The page comes from a service that is not trusted: everything is bounded, and what is no sample
// is refused with its line. As Prometheus itself does, an escape that is none stays as it is
// written.
//
// https://prometheus.io/docs/instrumenting/exposition_formats/
// https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/error.hpp"

namespace updagent::health {

inline constexpr std::size_t kMaxMetricsBytes = 8UL << 20;  // ten times what large services have
inline constexpr std::size_t kMaxMetricsLine = 64UL
                                               << 10;  // kMaxLabels of some length and a HELP text
inline constexpr std::size_t kMaxMetricsLines = 500'000;
inline constexpr std::size_t kMaxLabels = 64;  // Prometheus' advice is fewer than ten
inline constexpr std::size_t kMaxLabelBytes =
    4UL << 10;  // of a value; a regular expression is matched with it

struct Label {
  std::string name;
  std::string value;
};

// Valid during the visit alone.
struct Sample {
  std::string_view name;
  std::span<const Label> labels;  // sorted by name, no name twice
  double value = 0;               // may be NaN or infinite
  // "" when there is no such label, which is the same as in PromQL.
  std::string_view label(std::string_view wanted) const;
};

class MetricsParser {
 public:
  // An error of `visit` ends the reading.
  using Visit = std::function<base::Status(const Sample&)>;
  explicit MetricsParser(Visit visit) : visit_(std::move(visit)) {}

  // In pieces of any size. Code::probe_failed for what is no page of metrics or past a bound.
  base::Status feed(std::string_view bytes);
  // After the last piece. A page of OpenMetrics without its "# EOF" was cut short.
  base::Status finish(bool is_openmetrics);

 private:
  base::Status line(std::string_view text);
  base::Status comment(std::string_view text);
  base::Status sample(std::string_view text);
  base::Status labels(std::string_view& rest);
  base::Status label(std::string_view& rest);
  base::Status value(std::string_view& rest, std::string& out) const;
  base::Status tail(std::string_view rest) const;
  bool is_created(std::string_view name) const;
  base::Error wrong(std::string expected, std::string_view got) const;

  Visit visit_;
  std::string pending_;  // a line whose end has not come yet
  std::size_t bytes_ = 0;
  std::size_t lines_ = 0;
  bool ended_ = false;  // "# EOF"
  std::vector<Label> labels_;
  std::string family_;  // of the last TYPE with series of its own: counter, histogram, summary
};

}  // namespace updagent::health
