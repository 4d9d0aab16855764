#include "agent/base/file_lock.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/inotify.h>

#include <array>
#include <cerrno>
#include <string>

#include "agent/base/files.hpp"
#include "agent/base/text.hpp"

namespace updagent::base {
namespace {

constexpr std::size_t kPidLength = 32;

Result<UniqueFd> open_lock_file(const std::string& path) {
  return open_path(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
}

Result<bool> lock_now(int fd, const std::string& path) {
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return false;
    return system_error(errno, "cannot lock '" + path + "'");
  }
  const std::string pid = std::to_string(::getpid()) + "\n";
  // only a hint for people: a failure to write it changes nothing
  if (::ftruncate(fd, 0) == 0) static_cast<void>(!::pwrite(fd, pid.data(), pid.size(), 0));
  return true;
}

std::string holder_of(int fd) {
  std::array<char, kPidLength> text{};
  const ssize_t count = ::pread(fd, text.data(), text.size() - 1, 0);
  std::string pid(text.data(), count > 0 ? static_cast<std::size_t>(count) : 0);
  while (!pid.empty() && pid.back() == '\n') pid.pop_back();
  return parse_u64(pid) ? "process " + pid : "another process";
}

}  // namespace

Result<std::optional<FileLock>> FileLock::try_take(const std::string& path) {
  UPD_ASSIGN(UniqueFd fd, open_lock_file(path));
  UPD_ASSIGN(const bool taken, lock_now(fd.get(), path));
  if (!taken) return std::optional<FileLock>();
  return std::optional<FileLock>(FileLock(std::move(fd)));
}

Result<FileLock> FileLock::take(const std::string& path, Milliseconds limit, Interrupt* interrupt) {
  const Deadline deadline = Deadline::in(limit);
  UPD_ASSIGN(UniqueFd fd, open_lock_file(path));
  // Closing a descriptor that was open for writing is an event; a process that dies closes too.
  const UniqueFd closings(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!closings) return system_error(errno, "cannot make an inotify descriptor");
  if (::inotify_add_watch(closings.get(), path.c_str(), IN_CLOSE_WRITE) < 0)
    return system_error(errno, "cannot watch '" + path + "'");
  for (;;) {
    UPD_ASSIGN(const bool taken, lock_now(fd.get(), path));
    if (taken) return FileLock(std::move(fd));
    if (deadline.passed())
      return Error(Code::busy, "the lock '" + path + "' is held by " + holder_of(fd.get()));
    // A forked child of the holder may outlive the close that we see: look again each second.
    constexpr std::int64_t kLookAgainMs = 1000;
    const auto wait_ms =
        static_cast<int>(std::min<std::int64_t>(deadline.left().count(), kLookAgainMs));
    std::array<pollfd, 2> waiting{
        {{closings.get(), POLLIN, 0}, {interrupt != nullptr ? interrupt->fd() : -1, POLLIN, 0}}};
    ::poll(waiting.data(), waiting.size(), wait_ms);
    if (interrupt != nullptr && interrupt->requested())
      return Error(Code::interrupted, "stopped while waiting for '" + path + "'");
    std::array<char, 4096> events{};
    while (::read(closings.get(), events.data(), events.size()) > 0) {
    }
  }
}

}  // namespace updagent::base
