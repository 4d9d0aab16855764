// The small languages inside a gate: its condition, and selectors of metrics.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/error.hpp"
#include "agent/release/rollout.hpp"

namespace updagent::release {

inline constexpr std::size_t kMaxMatchers = 16;
inline constexpr std::size_t kMaxPatternBytes = 256;  // of =~ and !~

// METRIC OP NUMBER [x active], with METRIC by type:
//   scrape      error_ratio, ratio, pNN or pNN.N (a quantile of latency, in seconds)
//   prometheus  value
//   kernel      queue, accepted_ratio, memory (bytes), cpu (processors), descriptors, crashes,
//   oom_kills
// OP is <=, <, >= or >; NUMBER is not negative, for memory also a size as "512MiB". Of kernel only
// memory may be relative.
base::Result<Condition> parse_condition(std::string_view text, GateType type,
                                        const std::string& place, base::Code code);
// 0.99 of "p99"; nothing for what is no quantile.
std::optional<double> quantile_of(std::string_view metric);

struct LabelMatcher {
  enum class Kind { equal, not_equal, matches, not_matches };
  std::string label;
  Kind kind = Kind::equal;
  std::string value;  // of matches: a POSIX extended regular expression for the whole value, no
                      // back-references
};
struct MetricSelector {
  std::string name;
  std::vector<LabelMatcher> matchers;
};
// As in PromQL: http_requests_total{code=~"5..",method!="HEAD"}
base::Result<MetricSelector> parse_metric_selector(std::string_view text, const std::string& place,
                                                   base::Code code);

}  // namespace updagent::release
