#include "agent/health/metrics_text.hpp"

#include <algorithm>
#include <charconv>
#include <optional>

#include "agent/base/text.hpp"

namespace updagent::health {
namespace {

using base::Code;
using base::Error;
using base::ok;
using base::Status;

constexpr std::size_t kMaxQuoted = 80;  // of a line in a message
constexpr std::string_view kBlanks = " \t";
constexpr std::string_view kCreated = "_created";

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

void skip_blanks(std::string_view& rest) {
  rest.remove_prefix(std::min(rest.find_first_not_of(kBlanks), rest.size()));
}

// Up to the next blank, and the blanks after it.
std::string_view take_word(std::string_view& rest) {
  const std::string_view word = rest.substr(0, rest.find_first_of(kBlanks));
  rest.remove_prefix(word.size());
  skip_blanks(rest);
  return word;
}

// "" when there is none. A metric's name may have colons.
std::string_view take_name(std::string_view& rest, bool with_colons) {
  std::size_t length = 0;
  for (; length < rest.size(); ++length) {
    const char c = rest[length];
    if (!is_letter(c) && !(with_colons && c == ':') && !(length > 0 && is_digit(c))) break;
  }
  const std::string_view name = rest.substr(0, length);
  rest.remove_prefix(length);
  return name;
}

// "1", "+Inf", "NaN", "1e-3": as the formats have them.
std::optional<double> number(std::string_view text) {
  if (text.starts_with('+')) {
    text.remove_prefix(1);
    if (text.starts_with('-')) return std::nullopt;
  }
  double value = 0;
  const char* begin = text.data();
  const char* end = begin + text.size();
  const auto [stopped, problem] = std::from_chars(begin, end, value);
  if (problem != std::errc() || stopped != end) return std::nullopt;
  return value;
}

}  // namespace

std::string_view Sample::label(std::string_view wanted) const {
  const auto found = std::ranges::lower_bound(labels, wanted, {}, &Label::name);
  if (found == labels.end() || found->name != wanted) return "";
  return found->value;
}

Error MetricsParser::wrong(std::string expected, std::string_view got) const {
  return Error(Code::probe_failed, "line " + std::to_string(lines_) + " is no sample of a metric")
      .expected(std::move(expected))
      .got("'" + base::printable(base::to_valid_utf8(got.substr(0, kMaxQuoted))) + "'");
}

Status MetricsParser::feed(std::string_view bytes) {
  bytes_ += bytes.size();
  if (bytes_ > kMaxMetricsBytes)
    return Error(Code::probe_failed,
                 "the page is larger than " + base::human_bytes(kMaxMetricsBytes));
  for (std::size_t end = bytes.find('\n'); end != std::string_view::npos; end = bytes.find('\n')) {
    const std::string_view piece = bytes.substr(0, end);
    bytes.remove_prefix(end + 1);
    if (pending_.empty()) {
      UPD_TRY(line(piece));
      continue;
    }
    pending_.append(piece);
    const std::string whole = std::exchange(pending_, {});
    UPD_TRY(line(whole));
  }
  pending_.append(bytes);
  if (pending_.size() > kMaxMetricsLine) return line(pending_);  // refuses it
  return ok();
}

Status MetricsParser::finish(bool is_openmetrics) {
  // 0.0.4 wants a newline at the end, but a last line without one is whole all the same
  if (!pending_.empty()) UPD_TRY(line(std::exchange(pending_, {})));
  if (is_openmetrics && !ended_)
    return Error(Code::probe_failed, "the page was cut short").expected("'# EOF' as its last line");
  return ok();
}

Status MetricsParser::line(std::string_view text) {
  if (++lines_ > kMaxMetricsLines)
    return Error(Code::probe_failed,
                 "the page has more than " + std::to_string(kMaxMetricsLines) + " lines");
  if (ended_) return wrong("nothing after '# EOF'", text);
  if (text.size() > kMaxMetricsLine)
    return wrong("at most " + std::to_string(kMaxMetricsLine) + " bytes in a line", text);
  if (text.find('\0') != std::string_view::npos) return wrong("no NUL", text);
  skip_blanks(text);
  if (text.empty()) return ok();
  return text.front() == '#' ? comment(text) : sample(text);
}

Status MetricsParser::comment(std::string_view text) {
  ended_ = text == "# EOF";
  text.remove_prefix(1);
  skip_blanks(text);
  if (take_word(text) != "TYPE") return ok();
  const std::string_view name = take_word(text);
  const std::string_view type = take_word(text);
  const bool has_created =
      type == "counter" || type == "histogram" || type == "summary" || type == "gaugehistogram";
  family_ = has_created ? name : "";
  return ok();
}

bool MetricsParser::is_created(std::string_view name) const {
  return !family_.empty() && name.size() == family_.size() + kCreated.size() &&
         name.starts_with(family_) && name.ends_with(kCreated);
}

Status MetricsParser::sample(std::string_view text) {
  std::string_view rest = text;
  const std::string_view name = take_name(rest, true);
  if (name.empty()) return wrong("the name of a metric", text);
  const bool has_blank = !rest.empty() && kBlanks.find(rest.front()) != std::string_view::npos;
  skip_blanks(rest);
  labels_.clear();
  if (rest.starts_with('{')) {
    UPD_TRY(labels(rest));
  } else if (!has_blank) {
    return wrong("a blank or '{' after the name", text);
  }
  const std::string_view word = take_word(rest);
  const auto value = number(word);
  if (!value) return wrong("a number", word);
  UPD_TRY(tail(rest));
  if (is_created(name)) return ok();
  return visit_({name, labels_, *value});
}

Status MetricsParser::labels(std::string_view& rest) {
  rest.remove_prefix(1);
  skip_blanks(rest);
  while (!rest.starts_with('}')) {
    if (labels_.size() == kMaxLabels)
      return wrong("at most " + std::to_string(kMaxLabels) + " labels", rest);
    UPD_TRY(label(rest));
    skip_blanks(rest);
    if (rest.starts_with(',')) {
      rest.remove_prefix(1);
      skip_blanks(rest);
    } else if (!rest.starts_with('}')) {
      return wrong("',' or '}' after a label", rest);
    }
  }
  rest.remove_prefix(1);
  skip_blanks(rest);
  std::ranges::sort(labels_, {}, &Label::name);
  const auto twin = std::ranges::adjacent_find(labels_, {}, &Label::name);
  if (twin != labels_.end()) return wrong("each label once", twin->name);
  return ok();
}

Status MetricsParser::label(std::string_view& rest) {
  const std::string_view name = take_name(rest, false);
  if (name.empty()) return wrong("the name of a label", rest);
  skip_blanks(rest);
  if (!rest.starts_with('=')) return wrong("'=' after the name of a label", rest);
  rest.remove_prefix(1);
  skip_blanks(rest);
  Label& made = labels_.emplace_back();
  made.name = name;
  return value(rest, made.value);
}

Status MetricsParser::value(std::string_view& rest, std::string& out) const {
  if (!rest.starts_with('"')) return wrong("a value in quotes", rest);
  for (std::size_t i = 1; i < rest.size(); ++i) {
    char c = rest[i];
    if (c == '"') {
      rest.remove_prefix(i + 1);
      return ok();
    }
    const char next = i + 1 < rest.size() ? rest[i + 1] : '\0';
    if (c == '\\' && (next == '\\' || next == '"' || next == 'n')) {
      c = next == 'n' ? '\n' : next;
      ++i;
    }
    out += c;
    if (out.size() > kMaxLabelBytes)
      return wrong("at most " + std::to_string(kMaxLabelBytes) + " bytes in a value", out);
  }
  return wrong("a quote at the end of a value", rest);
}

// A timestamp and an exemplar, which is a comment to the older format.
Status MetricsParser::tail(std::string_view rest) const {
  if (rest.empty() || rest.starts_with("# {")) return ok();
  const std::string_view word = take_word(rest);
  if (!number(word)) return wrong("a timestamp or nothing", word);
  if (rest.empty() || rest.starts_with("# {")) return ok();
  return wrong("nothing after the timestamp", rest);
}

}  // namespace updagent::health
