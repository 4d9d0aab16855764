#include "agent/base/one_way.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace updagent::base {
namespace {

bool nothing_now(int code) {
  return code == EAGAIN || code == EWOULDBLOCK || code == EINTR;
}

}  // namespace

Status OneWay::take(int fd) {
  bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(given_));
  given_ = 0;
  const std::size_t before = bytes_.size();
  bytes_.resize(before + (kOneWayBytes - used()));
  const ssize_t got = ::read(fd, bytes_.data() + before, bytes_.size() - before);
  const int code = errno;
  bytes_.resize(before + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
  if (got == 0) ended_ = true;
  if (got >= 0 || nothing_now(code)) return ok();
  return system_error(code, "cannot read from a connection");
}

Status OneWay::give(int fd, std::size_t at_most) {
  const char* bytes = bytes_.data() + given_;
  const std::size_t size = std::min(used(), at_most);
  // no SIGPIPE from a socket; standard output may be anything
  ssize_t gone = ::send(fd, bytes, size, MSG_NOSIGNAL);
  if (gone < 0 && errno == ENOTSOCK) gone = ::write(fd, bytes, size);
  if (gone < 0) {
    if (nothing_now(errno)) return ok();
    return system_error(errno, "cannot write to a connection");
  }
  given_ += static_cast<std::size_t>(gone);
  if (used() > 0) return ok();
  bytes_.clear();
  given_ = 0;
  return ok();
}

void OneWay::put(std::string_view bytes) {
  bytes_.insert(bytes_.begin() + static_cast<std::ptrdiff_t>(given_), bytes.begin(), bytes.end());
}

}  // namespace updagent::base
