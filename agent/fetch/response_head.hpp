// The head of an HTTP response as far as a download needs it. Pure: bytes in, fields out.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace updagent::fetch {

// "bytes 100-199/1000", "bytes 100-199/*", "bytes */1000" (RFC 9110 14.4).
struct ContentRange {
  std::optional<std::uint64_t> first;  // both or none
  std::optional<std::uint64_t> last;
  std::optional<std::uint64_t> total;
};
std::optional<ContentRange> parse_content_range(std::string_view text);

struct ResponseHead {
  int status = 0;  // 0: no response came
  std::optional<std::uint64_t> content_length;
  std::string content_range;
  std::string content_encoding;
  std::string etag;
  std::string last_modified;
  std::string date;
  std::string retry_after;
  std::string location;
  // HTTP/2 and later, or chunks: where the body ends is said, with or without a Content-Length.
  bool body_has_an_end = false;

  // One line as it came, with its line end. A status line starts over: the last response counts
  // (after 1xx). What comes after the empty line is a trailer, and ignored: it came after the
  // decisions that it would change.
  void take_line(std::string_view line);

 private:
  bool ended_ = false;
};

// Which version of a file some bytes belong to.
struct Version {
  std::string etag;           // strong, with its quotes; "" if there is none
  std::string last_modified;  // as the server wrote it; only if strong, and only without any ETag
  std::optional<std::uint64_t> total;

  // Without one there is no way to ask for the rest of the same version.
  bool has_validator() const { return !etag.empty() || !last_modified.empty(); }
};
inline constexpr std::size_t kMaxValidatorBytes = 1024;  // real ones have below 100

// Of a 200: what If-Range may carry later (RFC 9110 13.1.5): a strong entity tag, or, when the
// server gave no entity tag at all, a Last-Modified that is strong by 8.8.2.2.
Version version_of(const ResponseHead& head);

}  // namespace updagent::fetch
