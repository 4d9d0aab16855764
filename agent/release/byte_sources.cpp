#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "agent/release/artifact_reader.hpp"

namespace updagent::release {

// A descriptor that its opener made non-blocking (a shell's stdin may be) is waited for.
base::Result<std::size_t> FdSource::read(std::span<std::uint8_t> into) {
  while (true) {
    const ssize_t count = ::read(fd_, into.data(), into.size());
    if (count >= 0) return static_cast<std::size_t>(count);
    if (errno == EAGAIN) {
      pollfd waiting{fd_, POLLIN, 0};
      ::poll(&waiting, 1, -1);
    } else if (errno != EINTR) {
      return base::system_error(errno, "cannot read '" + name_ + "'");
    }
  }
}

base::Result<std::size_t> MemorySource::read(std::span<std::uint8_t> into) {
  const std::size_t count = std::min(into.size(), left_.size());
  std::copy_n(left_.begin(), count, into.begin());
  left_.remove_prefix(count);
  return count;
}

}  // namespace updagent::release
