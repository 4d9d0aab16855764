// flock(2) on a file of its own, held while the object lives. The kernel drops it when the process
// dies, so a lock never outlives its owner.
#pragma once

#include <optional>
#include <string>

#include "agent/base/clock.hpp"
#include "agent/base/error.hpp"
#include "agent/base/interrupt.hpp"
#include "agent/base/unique_fd.hpp"

namespace updagent::base {

class FileLock {
 public:
  // Takes the lock or returns nothing if someone else has it. The file keeps the owner's pid.
  static Result<std::optional<FileLock>> try_take(const std::string& path);
  // Waits up to `limit`; Code::busy (naming the holder's pid) afterwards, Code::interrupted on ^C.
  static Result<FileLock> take(const std::string& path, Milliseconds limit, Interrupt* interrupt);
  // One that is held already: kept over execve(2) by its descriptor.
  static FileLock kept(UniqueFd fd) { return FileLock(std::move(fd)); }
  int fd() const { return fd_.get(); }
  FileLock(FileLock&&) noexcept = default;
  FileLock& operator=(FileLock&&) noexcept = default;

 private:
  explicit FileLock(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace updagent::base
