// A bounded ring of blocks between the thread that decompresses and the one that uses the bytes.
#pragma once

#include <array>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>

#include "agent/base/error.hpp"

namespace updagent::release {

// A block fits the L2 cache twice; four of them hide the jitter of either side in 1 MiB.
inline constexpr std::size_t kBlockBytes = 256 * 1024;
inline constexpr std::size_t kBlocks = 4;

struct Block {
  std::unique_ptr<std::uint8_t[]> memory;  // kBlockBytes, made when first used
  std::size_t filled = 0;
  bool first_part_ends = false;  // the first gzip member or zstd frame ends with this block

  std::span<const std::uint8_t> bytes() const { return {memory.get(), filled}; }
};

class BlockQueue {
 public:
  // Producer: waits for a free block; null once the queue was stopped.
  Block* begin_write();
  void commit_write();
  // Producer: nothing comes after what was committed, but this error if there is one.
  void close(std::optional<base::Error> error);

  // Consumer: the next block, valid until the next call; null at the end. After the last block the
  // error, if the queue was closed with one.
  base::Result<const Block*> next();
  // Wakes both sides for good.
  void stop();

 private:
  Block& slot(std::size_t index) { return blocks_[index % kBlocks]; }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::array<Block, kBlocks> blocks_;
  std::size_t written_ = 0;   // blocks committed so far
  std::size_t released_ = 0;  // blocks that the consumer has done with
  bool lent_ = false;         // the consumer holds block number released_
  bool closed_ = false;
  bool stopped_ = false;
  std::optional<base::Error> error_;
};

}  // namespace updagent::release
