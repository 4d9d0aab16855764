#include "tests/handoff/load/output.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>

namespace load {
namespace {

constexpr std::size_t kMaxWaiting = 256u << 20;  // a reader that takes nothing any more
constexpr int kExitNoReader = 1;

}  // namespace

Output::Output() {
  struct stat status{};  // on a terminal the flag would be the shell's as well
  if (::fstat(STDOUT_FILENO, &status) == 0 && S_ISFIFO(status.st_mode))
    ::fcntl(STDOUT_FILENO, F_SETFL, ::fcntl(STDOUT_FILENO, F_GETFL) | O_NONBLOCK);
}

void Output::line(const Json& document) {
  text_ += document.dump();
  text_ += '\n';
  if (text_.size() > kMaxWaiting) ::_exit(kExitNoReader);
  flush();
}

void Output::flush(bool all) {
  while (!text_.empty()) {
    const ssize_t written = ::write(STDOUT_FILENO, text_.data(), text_.size());
    if (written > 0) {
      text_.erase(0, static_cast<std::size_t>(written));
      continue;
    }
    if (written < 0 && errno != EAGAIN && errno != EINTR) ::_exit(kExitNoReader);
    if (!all) return;
    pollfd room{STDOUT_FILENO, POLLOUT, 0};
    ::poll(&room, 1, -1);
  }
}

}  // namespace load
