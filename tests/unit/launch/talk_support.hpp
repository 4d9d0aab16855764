// What the tests of notify and inject share: children that are ended by pid, messages with
// descriptors, waiting for an event.
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/unique_fd.hpp"
#include "agent/launch/aside.hpp"

namespace updagent::test {

using base::UniqueFd;

// Long for a loaded machine: only a test that fails waits for it.
inline constexpr int kPatienceMs = 30'000;

inline bool becomes_readable(int fd, int patience_ms = kPatienceMs) {
  pollfd event{fd, POLLIN, 0};
  return ::poll(&event, 1, patience_ms) == 1;
}

// Calls `turn` at each event of `fd` until `done`; false when nothing comes any more.
inline bool turn_until(int fd, const std::function<void()>& turn,
                       const std::function<bool()>& done) {
  while (!done()) {
    if (!becomes_readable(fd)) return false;
    turn();
  }
  return true;
}

struct Pipe {
  Pipe() {
    int ends[2] = {-1, -1};
    if (::pipe2(ends, O_CLOEXEC) == 0) {
      reader.reset(ends[0]);
      writer.reset(ends[1]);
    }
  }
  // Every copy of the writing end is closed.
  bool hung_up(int patience_ms = kPatienceMs) const {
    pollfd event{reader.get(), 0, 0};
    return ::poll(&event, 1, patience_ms) == 1;
  }
  UniqueFd reader;
  UniqueFd writer;
};

// A forked process that runs `work` and exits with what it returns.
class Child {
 public:
  explicit Child(const std::function<int()>& work) : pid_(::fork()) {
    if (pid_ == 0) ::_exit(work());
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    (void)wait();
  }
  pid_t pid() const { return pid_; }
  void kill(int signal_number) const { ::kill(pid_, signal_number); }
  // As of waitpid(2), reaped.
  int wait() {
    int status = -1;
    while (::waitpid(std::exchange(pid_, -1), &status, 0) < 0 && errno == EINTR) continue;
    return status;
  }
  // Dead, and a zombie.
  void wait_for_death() const {
    siginfo_t info{};
    ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT);
  }

 private:
  pid_t pid_;
};

// 0, or the errno. With `path` empty `fd` is connected.
inline int send_message(int fd, const std::string& path, const std::string& text,
                        const std::vector<int>& descriptors = {}) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  iovec data{const_cast<char*>(text.data()), text.size()};
  msghdr message{};
  message.msg_name = path.empty() ? nullptr : &address;
  message.msg_namelen = path.empty() ? 0 : sizeof address;
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  std::vector<char> control(CMSG_SPACE(descriptors.size() * sizeof(int)));
  if (!descriptors.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(descriptors.size() * sizeof(int));
    std::memcpy(CMSG_DATA(header), descriptors.data(), descriptors.size() * sizeof(int));
  }
  return ::sendmsg(fd, &message, MSG_NOSIGNAL) < 0 ? errno : 0;
}

inline int send_notify(const std::string& path, const std::string& text,
                       const std::vector<int>& descriptors = {}) {
  const UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  return send_message(socket.get(), path, text, descriptors);
}

inline bool set_option(int fd, int level, int option, int value) {
  return ::setsockopt(fd, level, option, &value, sizeof value) == 0;
}

// Asides that were left to themselves have a descriptor too: they are waited for.
inline std::size_t open_descriptors() {
  siginfo_t info{};
  while (launch::Aside::sweep() > 0) ::waitid(P_ALL, 0, &info, WEXITED | WNOWAIT | __WALL);
  std::size_t count = 0;
  DIR* folder = ::opendir("/proc/self/fd");
  while (::readdir(folder) != nullptr) ++count;
  ::closedir(folder);
  return count;
}

}  // namespace updagent::test
