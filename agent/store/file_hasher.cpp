#include "agent/store/file_hasher.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "agent/store/layout.hpp"

namespace updagent::store {
namespace {

constexpr std::size_t kChunk = 256 * 1024;  // fits the L2 cache

}  // namespace

FileHasher::FileHasher() : buffer_(kChunk) {}

base::Result<base::Digest> FileHasher::hash(int fd, std::string_view name_for_errors,
                                            base::Interrupt* interrupt) {
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
  sha_ = base::Sha256();  // an earlier call may have ended half-way
  off_t at = 0;
  for (;;) {
    if (interrupt != nullptr && interrupt->requested())
      return base::Error(base::Code::interrupted, "interrupted while checking files");
    const ssize_t count = ::pread(fd, buffer_.data(), buffer_.size(), at);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return base::system_error(errno, cannot("read", name_for_errors));
    if (count == 0) return sha_.finish();
    sha_.update(std::span(buffer_.data(), static_cast<std::size_t>(count)));
    at += count;
  }
}

}  // namespace updagent::store
