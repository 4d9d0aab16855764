#include "agent/release/gate_condition.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <span>

#include "agent/base/text.hpp"
#include "agent/release/describe.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Error;
using base::Result;

// Longer ones are no "METRIC OP NUMBER x active".
constexpr std::size_t kMaxConditionBytes = 128;
// What a double counts exactly; more memory or more of anything is a typing error.
constexpr double kMaxLimit = 9'007'199'254'740'992.0;
constexpr double kPercent = 100;

// What follows the traffic is not compared: at 1 % the candidate has hardly any, at 100 % the
// active one has none, and a limit of 0 times anything would undo every release.
struct Metric {
  std::string_view name;
  bool may_be_relative = true;
  bool is_share = false;  // from 0 to 1
  bool is_size = false;
};
constexpr Metric kScrapeMetrics[] = {{.name = "error_ratio", .is_share = true}, {.name = "ratio"}};
constexpr Metric kPrometheusMetrics[] = {{.name = "value"}};
constexpr Metric kKernelMetrics[] = {
    {.name = "accepted_ratio", .may_be_relative = false, .is_share = true},
    {.name = "cpu", .may_be_relative = false},
    {.name = "crashes", .may_be_relative = false},
    {.name = "descriptors", .may_be_relative = false},
    {.name = "memory", .is_size = true},
    {.name = "oom_kills", .may_be_relative = false},
    {.name = "queue", .may_be_relative = false}};
constexpr Metric kQuantile = {.name = "p99"};

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_space(char c) {
  return c == ' ' || c == '\t';
}
bool is_operator(char c) {
  return c == '<' || c == '>' || c == '=' || c == '!';
}

std::span<const Metric> metrics_of(GateType type) {
  switch (type) {
    case GateType::scrape:
      return kScrapeMetrics;
    case GateType::prometheus:
      return kPrometheusMetrics;
    case GateType::kernel:
      return kKernelMetrics;
    case GateType::probe:
    case GateType::exec:
      break;
  }
  return {};
}

// Cuts what belongs to one word off the front, and the blanks after it.
template <class Belongs>
std::string_view take(std::string_view& rest, Belongs belongs) {
  const auto end = std::find_if_not(rest.begin(), rest.end(), belongs);
  const std::string_view word = rest.substr(0, static_cast<std::size_t>(end - rest.begin()));
  rest.remove_prefix(word.size());
  rest.remove_prefix(std::min(rest.find_first_not_of(" \t"), rest.size()));
  return word;
}

// Digits, with a fraction or without: no sign, no exponent, nothing that a locale changes.
std::optional<double> plain_number(std::string_view text) {
  const std::size_t point = std::min(text.find('.'), text.size());
  const std::string_view whole = text.substr(0, point);
  const std::string_view part = point == text.size() ? "0" : text.substr(point + 1);
  const auto all_digits = [](std::string_view digits) {
    return !digits.empty() && std::all_of(digits.begin(), digits.end(), is_digit);
  };
  if (!all_digits(whole) || !all_digits(part)) return std::nullopt;
  double value = 0;
  for (const char digit : whole) value = value * 10 + (digit - '0');
  double unit = 1;
  double fraction = 0;
  for (const char digit : part) {
    unit *= 10;
    fraction = fraction * 10 + (digit - '0');
  }
  return value + fraction / unit;
}

class ConditionParser {
 public:
  ConditionParser(std::string_view text, GateType type, const std::string& place, Code code)
      : text_(text), type_(type), place_(place), code_(code) {}

  Result<Condition> parse() {
    if (text_.size() > kMaxConditionBytes)
      return wrong("at most " + std::to_string(kMaxConditionBytes) + " bytes",
                   std::to_string(text_.size()));
    std::string_view rest = text_;
    take(rest, is_space);
    UPD_ASSIGN(const Metric metric, this->metric(rest));
    UPD_ASSIGN(condition_.comparison, comparison(rest));
    const std::string_view limit = take(rest, [](char c) { return !is_space(c); });
    UPD_TRY(relation(rest, metric));
    UPD_TRY(this->limit(limit, metric));
    return std::move(condition_);
  }

 private:
  Error wrong(std::string expected, std::string got) const {
    return Error(code_, place_ + " is not valid").expected(std::move(expected)).got(std::move(got));
  }

  Result<Metric> metric(std::string_view& rest) {
    const std::string_view word =
        take(rest, [](char c) { return !is_space(c) && !is_operator(c); });
    condition_.metric = word;
    if (type_ == GateType::scrape && quantile_of(word)) return kQuantile;
    std::vector<std::string> names;
    for (const Metric& known : metrics_of(type_)) {
      if (known.name == word) return known;
      names.emplace_back(known.name);
    }
    if (type_ == GateType::scrape) names.insert(names.end(), {"p50", "p95", "p99", "p99.9"});
    Error error = wrong("a metric first, one of " + base::join(names, ", "), in_quotes(word));
    const auto near = base::nearest(word, names);
    return near ? std::move(error).hint("did you mean '" + *near + "'?") : error;
  }

  Result<Comparison> comparison(std::string_view& rest) const {
    const std::string_view word = take(rest, is_operator);
    if (word == "<=") return Comparison::less_or_equal;
    if (word == "<") return Comparison::less;
    if (word == ">=") return Comparison::greater_or_equal;
    if (word == ">") return Comparison::greater;
    return wrong("'<=', '<', '>=' or '>' after " + in_quotes(condition_.metric),
                 word.empty() ? in_quotes(rest) : in_quotes(word));
  }

  base::Status relation(std::string_view rest, const Metric& metric) {
    if (rest.empty()) return base::ok();
    const std::string_view times = take(rest, [](char c) { return !is_space(c); });
    const std::string_view whom = take(rest, [](char c) { return !is_space(c); });
    if (times != "x" || whom != "active" || !rest.empty())
      return wrong("nothing or 'x active' after the number", in_quotes(text_));
    if (!metric.may_be_relative)
      return wrong("a number alone: " + in_quotes(metric.name) + " is not compared",
                   in_quotes(text_));
    condition_.relative = true;
    return base::ok();
  }

  base::Status limit(std::string_view word, const Metric& metric) {
    auto value = plain_number(word);
    if (!value && metric.is_size && !condition_.relative)
      if (const auto bytes = base::parse_bytes(word)) value = static_cast<double>(*bytes);
    if (!value || *value > kMaxLimit)
      return wrong(
          metric.is_size ? "a number or a size such as '512MiB'" : "a number such as '3' or '0.05'",
          in_quotes(word));
    if (metric.is_share && !condition_.relative && *value > 1)
      return wrong("a share from 0 to 1, 0.05 for 5 %", in_quotes(word));
    if (condition_.relative && *value == 0)
      return wrong("more than 0 times what the active one has", in_quotes(text_));
    condition_.limit = *value;
    return base::ok();
  }

  std::string_view text_;
  GateType type_;
  const std::string& place_;
  Code code_;
  Condition condition_;
};

}  // namespace

Result<Condition> parse_condition(std::string_view text, GateType type, const std::string& place,
                                  Code code) {
  return ConditionParser(text, type, place, code).parse();
}

std::optional<double> quantile_of(std::string_view metric) {
  // "pNN" or "pNN.N"
  const bool is_short = metric.size() == 3;
  const bool is_long = metric.size() == 5 && metric[3] == '.' && is_digit(metric[4]);
  if ((!is_short && !is_long) || metric[0] != 'p' || !is_digit(metric[1]) || !is_digit(metric[2]))
    return std::nullopt;
  const double percent = plain_number(metric.substr(1)).value_or(0);
  if (percent <= 0) return std::nullopt;
  return percent / kPercent;
}

}  // namespace updagent::release
