#include "agent/release/block_stream.hpp"

#include <poll.h>
#include <sys/eventfd.h>

#include <array>
#include <cerrno>
#include <new>
#include <system_error>
#include <utility>

namespace updagent::release {
namespace {

using base::Code;
using base::Error;
using base::Status;

constexpr std::size_t kInputBytes = 256 * 1024;  // few system calls, and it stays in the L2 cache

Error interrupted() {
  return Error(Code::interrupted, "interrupted while reading the artifact");
}

}  // namespace

BlockStream::~BlockStream() {
  queue_.stop();
  if (stop_event_) ::eventfd_write(stop_event_.get(), 1);
  if (thread_.joinable()) thread_.join();
}

Status BlockStream::start() {
  stop_event_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop_event_) return base::system_error(errno, "cannot make an eventfd");
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error& error) {
    return base::system_error(error.code().value(), "cannot start a thread");
  }
  return base::ok();
}

base::Result<const Block*> BlockStream::next() {
  if (interrupt_ != nullptr && interrupt_->requested()) return interrupted();
  return queue_.next();
}

void BlockStream::run() {
  try {
    Status status = produce();
    queue_.close(status ? std::optional<Error>() : std::move(status).error());
  } catch (const std::bad_alloc&) {
    queue_.close(Error(Code::internal, "out of memory while decompressing"));
  }
}

Status BlockStream::produce() {
  input_ = std::make_unique_for_overwrite<std::uint8_t[]>(kInputBytes);
  UPD_TRY(gather_head());
  UPD_ASSIGN(Decompressor decompressor,
             Decompressor::for_head({input_.get(), std::min(input_end_, kSniffBytes)}));
  while (!ended_) {
    Block* block = queue_.begin_write();
    if (block == nullptr) return base::ok();
    Status status = fill(*block, decompressor);
    // what came before the damage is handed over: the consumer may know a better reason to refuse
    if (block->filled > 0) queue_.commit_write();
    UPD_TRY(std::move(status));
  }
  file_digest_ = hash_.finish();
  return base::ok();
}

Status BlockStream::fill(Block& block, Decompressor& decompressor) {
  while (block.filled < kBlockBytes) {
    if (input_at_ == input_end_ && !source_ended_) UPD_TRY(refill());
    UPD_ASSIGN(const DecodeStep step,
               decompressor.step({input_.get() + input_at_, input_end_ - input_at_},
                                 {block.memory.get() + block.filled, kBlockBytes - block.filled}));
    input_at_ += step.consumed;
    block.filled += step.produced;
    if (step.ended && !std::exchange(first_part_done_, true)) {
      block.first_part_ends = true;
      return base::ok();
    }
    if (source_ended_ && step.consumed == 0 && step.produced == 0) {
      ended_ = true;
      came_to_the_end_.store(true);
      return decompressor.finish();
    }
  }
  return base::ok();
}

// A pipe may give the first bytes one by one. An artifact is told by its first ones; of anything
// else more is looked at, to name it.
Status BlockStream::gather_head() {
  while (input_end_ < kSniffBytes && !source_ended_ &&
         !Decompressor::recognizes({input_.get(), input_end_}))
    UPD_TRY(refill());
  return base::ok();
}

// Appends to what is there when that is the head, else starts over.
Status BlockStream::refill() {
  if (input_at_ == input_end_) input_at_ = input_end_ = 0;
  UPD_TRY(wait_for_source());
  const std::span free(input_.get() + input_end_, kInputBytes - input_end_);
  UPD_ASSIGN(const std::size_t count, source_.read(free));
  hash_.update(free.first(count));
  compressed_bytes_ += count;
  input_end_ += count;
  source_ended_ = count == 0;
  return base::ok();
}

Status BlockStream::wait_for_source() {
  const int source_fd = source_.wait_fd();
  if (source_fd < 0) return base::ok();
  const int interrupt_fd = interrupt_ != nullptr ? interrupt_->fd() : -1;  // poll skips -1
  std::array<pollfd, 3> waiting{
      {{source_fd, POLLIN, 0}, {stop_event_.get(), POLLIN, 0}, {interrupt_fd, POLLIN, 0}}};
  while (::poll(waiting.data(), waiting.size(), -1) < 0)
    if (errno != EINTR) return base::system_error(errno, "cannot wait for the artifact's bytes");
  if (waiting[1].revents != 0) return Error(Code::internal, "the artifact's stream was stopped");
  if (waiting[2].revents != 0) return interrupted();
  return base::ok();
}

}  // namespace updagent::release
