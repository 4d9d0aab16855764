// Which samples of a page a selector means.
#pragma once

#include <regex.h>

#include <memory>
#include <string>
#include <vector>

#include "agent/base/error.hpp"
#include "agent/health/metrics_text.hpp"
#include "agent/release/gate_condition.hpp"

namespace updagent::health {

class MetricMatch {
 public:
  // Code::manifest_invalid for a regular expression that is none.
  static base::Result<MetricMatch> make(release::MetricSelector selector);
  const std::string& name() const { return selector_.name; }
  bool operator()(const Sample& sample) const;
  // Of its name, with every label that it asks for, whatever their values.
  bool could_mean(const Sample& sample) const;
  // Those labels.
  std::vector<std::string> labels() const;

 private:
  struct RegexFree {
    void operator()(regex_t* regex) const {
      ::regfree(regex);
      delete regex;
    }
  };
  using Regex = std::unique_ptr<regex_t, RegexFree>;
  explicit MetricMatch(release::MetricSelector selector) : selector_(std::move(selector)) {}
  base::Status compile(const release::LabelMatcher& matcher);
  bool holds(std::size_t index, const std::string& value) const;

  release::MetricSelector selector_;
  std::vector<Regex> regexes_;  // one for each matcher, null for those without
};

}  // namespace updagent::health
