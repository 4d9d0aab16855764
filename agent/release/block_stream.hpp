// The uncompressed bytes of an artifact in blocks: a thread reads the source, hashes and
// decompresses ahead of the consumer, by at most kBlocks blocks.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>

#include "agent/base/byte_source.hpp"
#include "agent/base/digest.hpp"
#include "agent/base/error.hpp"
#include "agent/base/interrupt.hpp"
#include "agent/base/unique_fd.hpp"
#include "agent/release/block_queue.hpp"
#include "agent/release/decompress.hpp"

namespace updagent::release {

class BlockStream {
 public:
  // Both outlive the stream; `interrupt` may be null. Nothing is read before start().
  BlockStream(base::ByteSource& source, base::Interrupt* interrupt)
      : source_(source), interrupt_(interrupt) {}
  // Stops the thread. Does not wait for a silent pipe if the source has a wait_fd(); otherwise for
  // the read() that is under way.
  ~BlockStream();
  BlockStream(const BlockStream&) = delete;
  BlockStream& operator=(const BlockStream&) = delete;

  base::Status start();
  // Valid until the next call; null at the end of the file. A block is full unless the first part
  // or the file ends with it, or damage begins behind it.
  base::Result<const Block*> next();

  std::uint64_t compressed_bytes() const { return compressed_bytes_.load(); }
  // Once next() has failed: the bytes themselves were sound up to the end of the source.
  bool came_to_the_end() const { return came_to_the_end_.load(); }
  // Of all compressed bytes; valid once next() has returned null.
  const base::Digest& file_digest() const { return file_digest_; }

 private:
  void run();
  base::Status produce();
  base::Status fill(Block& block, Decompressor& decompressor);
  base::Status gather_head();
  base::Status refill();
  base::Status wait_for_source();

  base::ByteSource& source_;
  base::Interrupt* interrupt_;
  base::UniqueFd stop_event_;
  BlockQueue queue_;
  std::atomic<std::uint64_t> compressed_bytes_ = 0;
  std::atomic<bool> came_to_the_end_ = false;
  base::Digest file_digest_;

  // the thread's own
  std::unique_ptr<std::uint8_t[]> input_;
  std::size_t input_at_ = 0;
  std::size_t input_end_ = 0;
  bool source_ended_ = false;
  bool ended_ = false;
  bool first_part_done_ = false;
  base::Sha256 hash_;

  std::thread thread_;
};

}  // namespace updagent::release
