#include "agent/fetch/response_head.hpp"

#include <algorithm>

#include "agent/base/clock.hpp"
#include "agent/base/text.hpp"

namespace updagent::fetch {
namespace {

constexpr std::string_view kBlanks = " \t\r\n";

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

// "HTTP/1.1 206 Partial Content", "HTTP/2 200"
int status_of(std::string_view line) {
  constexpr std::size_t kDigits = 3;
  const std::size_t space = line.find(' ');
  if (space == std::string_view::npos) return 0;
  const auto status = base::parse_u64(trimmed(line.substr(space)).substr(0, kDigits));
  return status && *status >= 100 && *status < 1000 ? static_cast<int>(*status) : 0;
}

// Strong, and plain enough to be sent back as it is. obs-text is left out: our state file is UTF-8.
bool is_strong_etag(std::string_view etag) {
  if (etag.size() < 2 || etag.size() > kMaxValidatorBytes) return false;
  if (etag.front() != '"' || etag.back() != '"') return false;
  return std::all_of(etag.begin() + 1, etag.end() - 1,
                     [](char c) { return c == '!' || (c >= '#' && c <= '~'); });
}

// RFC 9110 8.8.2.2 asks that the file was not changed again within the second it was sent in, by a
// clock that can be believed; RFC 7232 2.2.2 put "enough difference" at a minute, so do we.
bool is_strong_date(std::string_view last_modified, std::string_view date) {
  constexpr std::int64_t kEnoughDifferenceUs = 60'000'000;
  if (last_modified.size() > kMaxValidatorBytes) return false;
  const auto modified_us = base::parse_http_date(last_modified);
  const auto sent_us = base::parse_http_date(date);
  return modified_us && sent_us && *sent_us - *modified_us >= kEnoughDifferenceUs;
}

}  // namespace

std::optional<ContentRange> parse_content_range(std::string_view text) {
  constexpr std::string_view kUnit = "bytes ";
  if (lower(text.substr(0, kUnit.size())) != kUnit) return std::nullopt;
  text = trimmed(text.substr(kUnit.size()));
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const std::string_view range = text.substr(0, slash);
  const std::string_view total = text.substr(slash + 1);
  ContentRange out;
  if (total != "*") {
    out.total = base::parse_u64(total);
    if (!out.total) return std::nullopt;
  }
  if (range == "*") return out.total ? std::optional(out) : std::nullopt;
  const std::size_t dash = range.find('-');
  if (dash == std::string_view::npos) return std::nullopt;
  out.first = base::parse_u64(range.substr(0, dash));
  out.last = base::parse_u64(range.substr(dash + 1));
  if (!out.first || !out.last || *out.first > *out.last) return std::nullopt;
  if (out.total && *out.last >= *out.total) return std::nullopt;
  return out;
}

void ResponseHead::take_line(std::string_view line) {
  if (line.starts_with("HTTP/")) {
    *this = ResponseHead();
    status = status_of(line);
    body_has_an_end = !line.starts_with("HTTP/1.") && !line.starts_with("HTTP/0.");
    return;
  }
  if (ended_) return;
  if (trimmed(line).empty()) {
    ended_ = true;
    return;
  }
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos) return;
  const std::string name = lower(trimmed(line.substr(0, colon)));
  const std::string_view value = trimmed(line.substr(colon + 1));
  if (name == "content-length") content_length = base::parse_u64(value);
  if (name == "content-range") content_range = value;
  if (name == "content-encoding") content_encoding = lower(value);
  if (name == "transfer-encoding" && lower(value).find("chunked") != std::string::npos)
    body_has_an_end = true;
  if (name == "etag") etag = value;
  if (name == "last-modified") last_modified = value;
  if (name == "date") date = value;
  if (name == "retry-after") retry_after = value;
  if (name == "location") location = value;
}

Version version_of(const ResponseHead& head) {
  Version version;
  version.total = head.content_length;
  if (is_strong_etag(head.etag)) version.etag = head.etag;
  if (head.etag.empty() && is_strong_date(head.last_modified, head.date))
    version.last_modified = head.last_modified;
  return version;
}

}  // namespace updagent::fetch
