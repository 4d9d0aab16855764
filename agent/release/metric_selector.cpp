#include <regex.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>

#include "agent/release/describe.hpp"
#include "agent/release/gate_condition.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Error;
using base::ok;
using base::Result;
using base::Status;

constexpr std::size_t kMaxSelectorBytes = 4096;  // kMaxMatchers with a short pattern each
// glibc writes a repeated part out: (((a+)+)+)+ would be 16 of them, and a{99}{99} 9801.
constexpr std::uint64_t kMaxPatternParts = 4096;
constexpr std::size_t kMaxRegexMessage = 128;

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// --- patterns ---------------------------------------------------------------------------------

// How many parts a POSIX extended expression has once its repetitions are written out; nothing when
// there are too many. What is no expression at all gets some number: regcomp refuses it.
class PatternSize {
 public:
  explicit PatternSize(std::string_view pattern) : pattern_(pattern) { open_.emplace_back(); }

  bool is_small() {
    while (at_ < pattern_.size()) {
      step();
      if (total() > kMaxPatternParts) return false;
    }
    return true;
  }

 private:
  struct Group {
    std::uint64_t before = 0;  // all parts but the last one
    std::uint64_t last = 0;    // what a repetition repeats
  };

  std::uint64_t total() const {
    std::uint64_t sum = 0;
    for (const Group& group : open_) sum += group.before + group.last;
    return sum;
  }
  void part(std::uint64_t size) {
    open_.back().before += open_.back().last;
    open_.back().last = size;
  }
  void close() {
    if (open_.size() < 2) return;
    const Group group = open_.back();
    open_.pop_back();
    part(group.before + group.last + 1);
  }

  void step() {
    const char c = pattern_[at_++];
    switch (c) {
      case '\\':
        ++at_;
        return part(1);
      case '[':
        skip_bracket();
        return part(1);
      case '(':
        open_.emplace_back();
        return;
      case ')':
        return close();
      case '+':
        open_.back().last *= 2;
        return;
      case '{':
        open_.back().last *= most_times();
        return;
      default:
        return part(1);
    }
  }

  // A ']' that comes first is one of the set.
  void skip_bracket() {
    if (at_ < pattern_.size() && pattern_[at_] == '^') ++at_;
    at_ = std::min(pattern_.find(']', at_ + 1), pattern_.size() - 1) + 1;
  }

  // The highest number up to the '}', at least 1.
  std::uint64_t most_times() {
    std::uint64_t most = 1;
    std::uint64_t number = 0;
    for (; at_ < pattern_.size() && pattern_[at_] != '}'; ++at_) {
      const char c = pattern_[at_];
      number = is_digit(c) ? std::min(number * 10 + static_cast<std::uint64_t>(c - '0'),
                                      kMaxPatternParts + 1)
                           : 0;
      most = std::max(most, number);
    }
    return most;
  }

  std::string_view pattern_;
  std::size_t at_ = 0;
  std::vector<Group> open_;
};

bool has_back_reference(std::string_view pattern) {
  for (std::size_t i = 0; i + 1 < pattern.size(); ++i) {
    if (pattern[i] != '\\') continue;
    if (is_digit(pattern[i + 1])) return true;
    ++i;  // an escaped backslash escapes nothing itself
  }
  return false;
}

// What regcomp has against it; "" for nothing.
std::string regex_problem(const std::string& pattern) {
  regex_t compiled{};
  const int result = ::regcomp(&compiled, pattern.c_str(), REG_EXTENDED | REG_NOSUB);
  if (result == 0) {
    ::regfree(&compiled);
    return "";
  }
  std::array<char, kMaxRegexMessage> message{};
  ::regerror(result, &compiled, message.data(), message.size());
  return message.data();
}

// --- the selector -----------------------------------------------------------------------------

class SelectorParser {
 public:
  SelectorParser(std::string_view text, const std::string& place, Code code)
      : rest_(text), place_(place), code_(code) {}

  Result<MetricSelector> parse() {
    if (rest_.size() > kMaxSelectorBytes)
      return wrong("at most " + std::to_string(kMaxSelectorBytes) + " bytes",
                   std::to_string(rest_.size()));
    MetricSelector selector;
    skip_blanks();
    selector.name = name(true);
    if (selector.name.empty())
      return wrong("the name of a metric, such as 'http_requests_total'", in_quotes(rest_));
    if (take("{")) UPD_TRY(matchers(selector));
    if (!rest_.empty()) return wrong("nothing behind the selector", in_quotes(rest_));
    return selector;
  }

 private:
  Error wrong(std::string expected, std::string got) const {
    return Error(code_, place_ + " is not valid").expected(std::move(expected)).got(std::move(got));
  }
  void skip_blanks() {
    rest_.remove_prefix(std::min(rest_.find_first_not_of(" \t\n"), rest_.size()));
  }
  bool take(std::string_view word) {
    if (!rest_.starts_with(word)) return false;
    rest_.remove_prefix(word.size());
    skip_blanks();
    return true;
  }

  // A metric's may have colons.
  std::string name(bool with_colons) {
    std::size_t length = 0;
    for (; length < rest_.size(); ++length) {
      const char c = rest_[length];
      if (is_letter(c) || (c == ':' && with_colons) || (is_digit(c) && length > 0)) continue;
      break;
    }
    std::string out(rest_.substr(0, length));
    rest_.remove_prefix(length);
    skip_blanks();
    return out;
  }

  Status matchers(MetricSelector& into) {
    while (!take("}")) {
      if (into.matchers.size() == kMaxMatchers)
        return wrong("at most " + std::to_string(kMaxMatchers) + " matchers", "more");
      UPD_ASSIGN(LabelMatcher matcher, this->matcher());
      into.matchers.push_back(std::move(matcher));
      if (take(",")) continue;
      if (!rest_.starts_with('}')) return wrong("',' or '}' after a matcher", in_quotes(rest_));
    }
    return ok();
  }

  Result<LabelMatcher> matcher() {
    LabelMatcher out;
    out.label = name(false);
    if (out.label.empty()) return wrong("the name of a label", in_quotes(rest_));
    UPD_ASSIGN(out.kind, kind(out.label));
    UPD_ASSIGN(out.value, value());
    using Kind = LabelMatcher::Kind;
    if (out.kind == Kind::matches || out.kind == Kind::not_matches) UPD_TRY(pattern(out.value));
    return out;
  }

  Result<LabelMatcher::Kind> kind(const std::string& label) {
    using Kind = LabelMatcher::Kind;
    if (take("=~")) return Kind::matches;
    if (take("!~")) return Kind::not_matches;
    if (take("!=")) return Kind::not_equal;
    if (take("=")) return Kind::equal;
    return wrong("'=', '!=', '=~' or '!~' after the label " + in_quotes(label), in_quotes(rest_));
  }

  Result<std::string> value() {
    const char quote = rest_.empty() ? '\0' : rest_.front();
    if (quote != '"' && quote != '\'') return wrong("a value in quotes", in_quotes(rest_));
    std::string out;
    for (std::size_t i = 1; i < rest_.size(); ++i) {
      if (rest_[i] == quote) {
        rest_.remove_prefix(i + 1);
        skip_blanks();
        return out;
      }
      if (rest_[i] != '\\') {
        out += rest_[i];
        continue;
      }
      UPD_TRY(escaped(++i, out));
    }
    return wrong("a quote at the end of a value", in_quotes(rest_));
  }

  // As in PromQL, where "\\." is what a regular expression needs for a dot.
  Status escaped(std::size_t at, std::string& out) const {
    const char c = at < rest_.size() ? rest_[at] : '\0';
    if (c != '\\' && c != '"' && c != '\'' && c != 'n')
      return wrong("'\\\\', '\\\"' or '\\n' after a backslash", in_quotes(rest_.substr(at - 1)));
    out += c == 'n' ? '\n' : c;
    return ok();
  }

  Status pattern(const std::string& pattern) const {
    if (pattern.size() > kMaxPatternBytes)
      return wrong("a regular expression of at most " + std::to_string(kMaxPatternBytes) + " bytes",
                   std::to_string(pattern.size()));
    if (pattern.find('\0') != std::string::npos) return wrong("no NUL", "one");
    if (has_back_reference(pattern))
      return wrong("a regular expression without back-references", in_quotes(pattern));
    if (!PatternSize(pattern).is_small())
      return wrong("fewer repetitions of repetitions", in_quotes(pattern));
    const std::string problem = regex_problem(pattern);
    if (problem.empty()) return ok();
    return wrong("a POSIX extended regular expression", in_quotes(pattern) + ": " + problem);
  }

  std::string_view rest_;
  const std::string& place_;
  Code code_;
};

}  // namespace

Result<MetricSelector> parse_metric_selector(std::string_view text, const std::string& place,
                                             Code code) {
  return SelectorParser(text, place, code).parse();
}

}  // namespace updagent::release
