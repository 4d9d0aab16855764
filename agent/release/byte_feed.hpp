// Feeds a JSON reader byte by byte from a source, and stops what the reader would swallow: a byte
// order mark, a NUL (which it takes for the end), a text or a token past its bound.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <vector>

#include "agent/base/byte_source.hpp"
#include "agent/base/error.hpp"

namespace updagent::release {

class ByteFeed {
 public:
  // `source` outlives the feed.
  explicit ByteFeed(base::ByteSource& source);

  bool at_end() { return at_ == filled_ && !refill(); }
  char front() const { return static_cast<char>(buffer_[at_]); }
  void advance() { ++at_; }

  // Bytes taken so far.
  std::uint64_t position() const { return before_ + at_; }
  // Why the feed ended early, once the reader has come to that place.
  const std::optional<base::Error>& problem() const { return problem_; }
  bool stopped() const { return problem_.has_value() && at_ == filled_; }

  // What the reader walks with; all copies share the feed. A default one is the end.
  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = char;
    using difference_type = std::ptrdiff_t;
    using pointer = const char*;
    using reference = char;

    Iterator() = default;
    explicit Iterator(ByteFeed& feed) : feed_(&feed) {}
    char operator*() const { return feed_->front(); }
    Iterator& operator++() {
      feed_->advance();
      return *this;
    }
    bool operator==(const Iterator& other) const { return is_end() == other.is_end(); }

   private:
    bool is_end() const { return feed_ == nullptr || feed_->at_end(); }
    ByteFeed* feed_ = nullptr;
  };

 private:
  enum class Trouble : std::uint8_t { none, text_too_large, token_too_large, byte_order_mark, nul };

  bool refill();
  std::size_t accepted(std::size_t count);
  Trouble look_at(std::uint8_t byte, std::uint64_t position);
  static base::Error error_of(Trouble trouble, std::uint64_t position);

  base::ByteSource& source_;
  std::vector<std::uint8_t> buffer_;
  std::size_t at_ = 0;
  std::size_t filled_ = 0;
  std::uint64_t before_ = 0;  // bytes in buffers that are gone
  bool ended_ = false;
  bool in_string_ = false;
  bool escaped_ = false;
  std::size_t since_quote_ = 0;
  std::optional<base::Error> problem_;
};

}  // namespace updagent::release
