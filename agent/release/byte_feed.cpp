#include "agent/release/byte_feed.hpp"

#include <string>

#include "agent/release/manifest.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Error;

constexpr std::size_t kFeedChunk = 64UL * 1024;  // fits the L2 cache beside the table's tail
// The reader keeps the token it is in, and blanks before it, as a copy: without a bound a single
// string of 64 MiB would. The longest string, with every byte written as \u00XX, and its quotes.
constexpr std::size_t kMaxTokenBytes = 6 * kMaxStringBytes + 2;
// The last byte that can begin UTF-8's byte order mark; no JSON text begins with it otherwise.
constexpr std::uint8_t kByteOrderMark = 0xEF;

}  // namespace

ByteFeed::ByteFeed(base::ByteSource& source) : source_(source), buffer_(kFeedChunk) {}

bool ByteFeed::refill() {
  if (ended_) return false;
  before_ += filled_;
  at_ = filled_ = 0;
  auto count = source_.read(buffer_);
  if (!count) {
    problem_ = std::move(count).error();
    ended_ = true;
    return false;
  }
  filled_ = accepted(*count);
  ended_ = filled_ == 0 || problem_.has_value();
  return filled_ > 0;
}

// The number of bytes before the first one that is refused.
std::size_t ByteFeed::accepted(std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    const Trouble trouble = look_at(buffer_[i], before_ + i);
    if (trouble == Trouble::none) continue;
    problem_ = error_of(trouble, before_ + i);
    return i;
  }
  return count;
}

ByteFeed::Trouble ByteFeed::look_at(std::uint8_t byte, std::uint64_t position) {
  if (position >= kMaxManifestBytes) return Trouble::text_too_large;
  if (position == 0 && byte == kByteOrderMark) return Trouble::byte_order_mark;
  if (byte == 0) return Trouble::nul;
  if (++since_quote_ > kMaxTokenBytes) return Trouble::token_too_large;
  if (in_string_ && escaped_) {
    escaped_ = false;
  } else if (in_string_ && byte == '\\') {
    escaped_ = true;
  } else if (byte == '"') {
    in_string_ = !in_string_;
    since_quote_ = 0;
  }
  return Trouble::none;
}

Error ByteFeed::error_of(Trouble trouble, std::uint64_t position) {
  const std::string place = "byte " + std::to_string(position);
  switch (trouble) {
    case Trouble::text_too_large:
      return Error(Code::manifest_too_large, "the manifest is too large")
          .expected("at most " + std::to_string(kMaxManifestBytes) + " bytes")
          .got("more");
    case Trouble::token_too_large:
      return Error(Code::manifest_too_large, "a string or a run of blanks is too long")
          .expected("at most " + std::to_string(kMaxTokenBytes) + " bytes as written")
          .got("more at " + place);
    case Trouble::byte_order_mark:
      return Error(Code::manifest_invalid, "not plain JSON")
          .expected("an object from the first byte on")
          .got("a byte order mark");
    case Trouble::nul:
      return Error(Code::manifest_invalid, "not valid JSON")
          .expected("text")
          .got("NUL at " + place);
    case Trouble::none:
      break;
  }
  return {Code::internal, "a manifest was refused for nothing"};
}

}  // namespace updagent::release
