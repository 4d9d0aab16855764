// gzip (RFC 1952, several members) and zstd (RFC 8878, several frames) as one stream, strictly:
// every checksum holds, no skippable frames, no dictionaries, no empty parts, nothing behind the
// last one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "agent/base/error.hpp"

namespace updagent::release {

inline constexpr int kMaxWindowLog = 23;  // 8 MiB: bounds the memory of a zstd reader
// From this many first bytes (or all, if there are fewer) the compression or a mistake is told.
inline constexpr std::size_t kSniffBytes = 512;

struct DecodeStep {
  std::size_t consumed = 0;
  std::size_t produced = 0;
  bool ended = false;  // a member or frame ended with these bytes
};

// One gzip member or zstd frame after the other, each told by its first bytes.
class PartDecoder {
 public:
  virtual ~PartDecoder() = default;
  virtual std::string_view part_name() const = 0;  // "gzip member"
  // Every part begins with this many bytes, which check_prefix() accepts.
  virtual std::size_t prefix_size() const = 0;
  virtual base::Status check_prefix(std::span<const std::uint8_t> prefix) const = 0;
  virtual base::Status begin() = 0;
  virtual base::Result<DecodeStep> decode(std::span<const std::uint8_t> in,
                                          std::span<std::uint8_t> out) = 0;
};

class Decompressor {
 public:
  // Whether `head` begins like a compressed file; one that does needs no further bytes to be told.
  static bool recognizes(std::span<const std::uint8_t> head);
  // `head`: the first kSniffBytes, or all if there are fewer. Code::not_an_artifact says what the
  // bytes look like instead.
  static base::Result<Decompressor> for_head(std::span<const std::uint8_t> head);

  // Takes from `in`, fills `out` (not empty); stops where a part ends. Without progress it wants
  // more input. Code::artifact_damaged, Code::header_unsupported.
  base::Result<DecodeStep> step(std::span<const std::uint8_t> in, std::span<std::uint8_t> out);
  // There is no more input.
  base::Status finish() const;
  std::string_view part_name() const { return decoder_->part_name(); }

 private:
  static constexpr std::size_t kMaxPrefix = 5;

  explicit Decompressor(std::unique_ptr<PartDecoder> decoder) : decoder_(std::move(decoder)) {}
  base::Result<DecodeStep> begin_part(std::span<const std::uint8_t> in);
  base::Error not_a_part() const;

  std::unique_ptr<PartDecoder> decoder_;
  std::array<std::uint8_t, kMaxPrefix> prefix_{};
  std::size_t prefix_filled_ = 0;
  bool inside_ = false;         // a part has begun and not ended
  std::uint64_t produced_ = 0;  // by the part that is being read
  std::uint64_t parts_ = 0;     // complete ones
};

}  // namespace updagent::release
