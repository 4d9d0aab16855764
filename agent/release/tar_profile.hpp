// Sees every byte of an uncompressed archive before the tar parser does, and lets only the positive
// profile of docs/artifact.md through: known headers in their one spelling, zero padding, two zero
// blocks at the end and nothing behind them. So every tar program reads the same entries.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>

#include "agent/base/error.hpp"
#include "agent/release/tar_header.hpp"

namespace updagent::release {

class TarProfile {
 public:
  // Looks at the next bytes of the stream. Returns how many of them, from the front, are within the
  // profile: fewer than given means that failure() is set, for good.
  std::size_t feed(std::span<const std::uint8_t> bytes);
  const std::optional<base::Error>& failure() const { return failure_; }
  // The stream has ended here: Code::artifact_damaged unless it was complete.
  base::Status finish() const;

  // Headers in their order, each once. As far as feed() has come: nothing if there is none yet.
  std::optional<TarHeader> take_header();

 private:
  enum class Expect { header, pax_records, pax_padding, data, padding, second_zero_block, nothing };

  std::span<const std::uint8_t> step(std::span<const std::uint8_t> bytes);
  std::span<const std::uint8_t> take_block(std::span<const std::uint8_t> bytes);
  std::span<const std::uint8_t> take_pax_records(std::span<const std::uint8_t> bytes);
  std::span<const std::uint8_t> take_padding(std::span<const std::uint8_t> bytes);
  std::span<const std::uint8_t> take_data(std::span<const std::uint8_t> bytes);
  base::Status on_block(TarBlock block);
  base::Status on_header(TarBlock block);
  base::Status on_entry(TarBlock block);
  void enter(Expect region, std::uint64_t bytes, Expect otherwise);
  void fail(base::Error error);

  Expect expect_ = Expect::header;
  std::uint64_t left_ = 0;  // bytes of the region that `expect_` names
  std::uint64_t padding_ = 0;
  std::array<std::uint8_t, kTarBlock> block_{};  // a block that came in pieces
  std::size_t block_filled_ = 0;
  std::string pax_text_;
  std::optional<PaxRecords> pax_;  // for the header that comes next
  std::deque<TarHeader> headers_;
  std::string current_path_;
  std::optional<base::Error> failure_;
};

}  // namespace updagent::release
