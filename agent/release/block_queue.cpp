#include "agent/release/block_queue.hpp"

#include <utility>

namespace updagent::release {

using base::Code;
using base::Error;

Block* BlockQueue::begin_write() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return stopped_ || written_ - released_ < kBlocks; });
  if (stopped_) return nullptr;
  Block& block = slot(written_);
  // uninitialised on purpose: only what was filled is ever read
  if (!block.memory) block.memory = std::make_unique_for_overwrite<std::uint8_t[]>(kBlockBytes);
  block.filled = 0;
  block.first_part_ends = false;
  return &block;
}

void BlockQueue::commit_write() {
  const std::lock_guard lock(mutex_);
  ++written_;
  changed_.notify_all();
}

void BlockQueue::close(std::optional<Error> error) {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  error_ = std::move(error);
  changed_.notify_all();
}

base::Result<const Block*> BlockQueue::next() {
  std::unique_lock lock(mutex_);
  if (std::exchange(lent_, false)) {
    ++released_;
    changed_.notify_all();
  }
  changed_.wait(lock, [&] { return stopped_ || closed_ || written_ > released_; });
  if (stopped_) return Error(Code::internal, "the artifact's stream was stopped");
  if (written_ > released_) {
    lent_ = true;
    return &slot(released_);
  }
  if (error_) return *error_;
  return nullptr;
}

void BlockQueue::stop() {
  const std::lock_guard lock(mutex_);
  stopped_ = true;
  changed_.notify_all();
}

}  // namespace updagent::release
