#include "agent/health/metric_match.hpp"

#include <algorithm>

namespace updagent::health {

using Kind = release::LabelMatcher::Kind;

base::Result<MetricMatch> MetricMatch::make(release::MetricSelector selector) {
  MetricMatch match(std::move(selector));
  for (const release::LabelMatcher& matcher : match.selector_.matchers)
    UPD_TRY(match.compile(matcher));
  return match;
}

base::Status MetricMatch::compile(const release::LabelMatcher& matcher) {
  regexes_.emplace_back();
  if (matcher.kind != Kind::matches && matcher.kind != Kind::not_matches) return base::ok();
  auto compiled = std::make_unique<regex_t>();
  const std::string whole = "^(" + matcher.value + ")$";
  if (::regcomp(compiled.get(), whole.c_str(), REG_EXTENDED | REG_NOSUB) != 0)
    return base::Error(
               base::Code::manifest_invalid,
               "a matcher of " + selector_.name + " has no regular expression that can be used")
        .got("'" + matcher.value + "'");
  regexes_.back().reset(compiled.release());
  return base::ok();
}

bool MetricMatch::operator()(const Sample& sample) const {
  if (sample.name != selector_.name) return false;
  for (std::size_t i = 0; i < selector_.matchers.size(); ++i)
    if (!holds(i, std::string(sample.label(selector_.matchers[i].label)))) return false;
  return true;
}

bool MetricMatch::could_mean(const Sample& sample) const {
  if (sample.name != selector_.name) return false;
  return std::ranges::none_of(
      labels(), [&](const std::string& label) { return sample.label(label).empty(); });
}

// Not those that may be missing: `!=` of a value, `=` of none.
std::vector<std::string> MetricMatch::labels() const {
  std::vector<std::string> labels;
  for (std::size_t i = 0; i < selector_.matchers.size(); ++i)
    if (!holds(i, "")) labels.push_back(selector_.matchers[i].label);
  return labels;
}

bool MetricMatch::holds(std::size_t index, const std::string& value) const {
  const release::LabelMatcher& matcher = selector_.matchers[index];
  const auto matches = [&] {
    return ::regexec(regexes_[index].get(), value.c_str(), 0, nullptr, 0) == 0;
  };
  switch (matcher.kind) {
    case Kind::equal:
      return value == matcher.value;
    case Kind::not_equal:
      return value != matcher.value;
    case Kind::matches:
      return matches();
    case Kind::not_matches:
      return !matches();
  }
  return false;
}

}  // namespace updagent::health
