// A server under a filter that asks at bind(2), and the supervisor's side of it. The filter is the
// smallest that does it: the product's own is tested elsewhere.
#pragma once

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cstddef>
#include <memory>
#include <optional>

#include "agent/base/pidfd.hpp"
#include "agent/launch/inject.hpp"
#include "tests/unit/launch/talk_support.hpp"

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

namespace updagent::test {

inline constexpr uid_t kServiceUser = 65534;

// The notify descriptor, or empty with errno set.
inline UniqueFd install_bind_filter(bool wait_killable = true) {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_bind, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog code{std::size(program), program};
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  const unsigned long flags = SECCOMP_FILTER_FLAG_NEW_LISTENER |
                              (wait_killable ? SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV : 0);
  return UniqueFd(static_cast<int>(::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &code)));
}

inline UniqueFd receive_descriptor(int socket_fd) {
  char byte = 0;
  iovec data{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  if (::recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC) <= 0) return {};
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr) return {};
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return UniqueFd(fd);
}

struct TargetOptions {
  bool wait_killable = true;
  uid_t user = kServiceUser;
};

// A process under the filter, started and waiting for go().
class Target {
 public:
  explicit Target(const std::function<int()>& work, TargetOptions options = {}) {
    int ends[2] = {-1, -1};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return;
    ours_.reset(ends[0]);
    UniqueFd theirs(ends[1]);
    child_ = std::make_unique<Child>([&] { return live(theirs.get(), options, work); });
    theirs.reset();
    notify_ = receive_descriptor(ours_.get());
    pidfd_ = base::open_pidfd(child_->pid());
  }
  pid_t pid() const { return child_->pid(); }
  int pidfd() const { return pidfd_.get(); }
  // Empty: this kernel has no such filter.
  UniqueFd notify() const { return UniqueFd(::fcntl(notify_.get(), F_DUPFD_CLOEXEC, 0)); }
  void drop_notify() { notify_.reset(); }
  void go() { (void)::send(ours_.get(), "g", 1, MSG_NOSIGNAL); }
  void kill() { child_->kill(SIGKILL); }
  // Exit status, or 1000 and the signal.
  int wait() {
    const int status = child_->wait();
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
  }

 private:
  static int live(int parent, const TargetOptions& options, const std::function<int()>& work) {
    if (options.user != 0 && (::setgid(options.user) != 0 || ::setuid(options.user) != 0))
      return 250;
    {
      const UniqueFd notify = install_bind_filter(options.wait_killable);
      if (!notify || send_message(parent, "", "n", {notify.get()}) != 0) return 251;
    }
    char byte = 0;
    if (::read(parent, &byte, 1) != 1) return 252;
    return work();
  }

  UniqueFd ours_;
  UniqueFd notify_;
  UniqueFd pidfd_;
  std::unique_ptr<Child> child_;
};

// --- addresses and sockets ----------------------------------------------------------------------

struct Name {
  sockaddr_storage storage{};
  socklen_t length = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

inline Name in_name(const std::string& host, std::uint16_t port) {
  Name out;
  auto& in = reinterpret_cast<sockaddr_in&>(out.storage);
  in.sin_family = AF_INET;
  in.sin_port = htons(port);
  ::inet_pton(AF_INET, host.c_str(), &in.sin_addr);
  out.length = sizeof in;
  return out;
}

inline Name in6_name(const std::string& host, std::uint16_t port) {
  Name out;
  auto& in6 = reinterpret_cast<sockaddr_in6&>(out.storage);
  in6.sin6_family = AF_INET6;
  in6.sin6_port = htons(port);
  ::inet_pton(AF_INET6, host.c_str(), &in6.sin6_addr);
  out.length = sizeof in6;
  return out;
}

// A leading '@' makes it abstract.
inline Name unix_name_of(const std::string& path) {
  Name out;
  auto& un = reinterpret_cast<sockaddr_un&>(out.storage);
  un.sun_family = AF_UNIX;
  path.copy(un.sun_path, sizeof un.sun_path - 1);
  out.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1);
  if (path.starts_with('@')) {
    un.sun_path[0] = '\0';
    --out.length;
  }
  return out;
}

inline UniqueFd new_socket(int domain = AF_INET, int type = SOCK_STREAM) {
  return UniqueFd(::socket(domain, type | SOCK_CLOEXEC, 0));
}

inline bool bind_to(const UniqueFd& socket, const Name& name) {
  return ::bind(socket.get(), name.get(), name.length) == 0;
}

inline Name bound_name(int fd) {
  Name out;
  out.length = sizeof out.storage;
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&out.storage), &out.length);
  return out;
}

inline std::uint16_t port_of(const Name& name) {
  return ntohs(reinterpret_cast<const sockaddr_in&>(name.storage).sin_port);
}

inline std::uint64_t cookie_of(int fd) {
  std::uint64_t cookie = 0;
  socklen_t length = sizeof cookie;
  ::getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length);
  return cookie;
}

inline int option_of(int fd, int level, int option) {
  int value = -1;
  socklen_t length = sizeof value;
  return ::getsockopt(fd, level, option, &value, &length) == 0 ? value : -1;
}

// --- the supervisor -----------------------------------------------------------------------------

// A listener of the app on a port of the kernel's choice, and what inject needs to know of it.
class Listener {
 public:
  explicit Listener(const Name& at = in_name("127.0.0.1", 0), int type = SOCK_STREAM)
      : socket_(new_socket(at.storage.ss_family, type)) {
    set_option(socket_.get(), SOL_SOCKET, SO_REUSEPORT, 1);
    EXPECT_TRUE(bind_to(socket_, at)) << std::strerror(errno);
    if (type != SOCK_DGRAM) {
      EXPECT_EQ(::listen(socket_.get(), 128), 0);
    }
  }
  int fd() const { return socket_.get(); }
  Name name() const { return bound_name(socket_.get()); }
  std::uint16_t port() const { return port_of(name()); }
  // `asked`: what the service binds, when that is something else.
  launch::InjectListener described(const std::string& as = "http",
                                   std::optional<Name> asked = std::nullopt) const {
    launch::InjectListener out;
    const Name name_of_it = asked.value_or(name());
    out.name = as;
    out.address = name_of_it.storage;
    out.address_length = name_of_it.length;
    out.type = option_of(fd(), SOL_SOCKET, SO_TYPE);
    out.socket_fd = fd();
    return out;
  }

 private:
  UniqueFd socket_;
};

class Supervisor {
 public:
  explicit Supervisor(std::vector<launch::InjectListener> listeners)
      : listeners_(std::move(listeners)), journal_(launch::InjectJournal::make().value()) {}

  launch::ServiceTrust trust = launch::ServiceTrust::other_user;
  int aside_limit_ms = launch::kAsideLimitMs;

  // Like a successor, when it is called again.
  void attend(const Target& target) {
    injector_.reset();
    launch::InjectSetup setup;
    setup.notify = target.notify();
    setup.journal.reset(::fcntl(journal_.get(), F_DUPFD_CLOEXEC, 0));
    setup.listeners = listeners_;
    setup.trust = trust;
    setup.aside_limit_ms = aside_limit_ms;
    auto made = launch::Injector::create(
        std::move(setup),
        [this](const launch::InjectReport& report) { reports.push_back(report); });
    ASSERT_TRUE(made.has_value()) << made.error().line();
    injector_ = std::move(*made);
  }
  // Serves until the target has exited, and all is done; its exit status.
  int serve(Target& target) {
    attend(target);
    target.go();
    const bool served =
        serve_until([&] { return becomes_readable(target.pidfd(), 0); }, target.pidfd()) &&
        serve_until([&] { return injector_->idle(); });
    if (!served) target.kill();  // it would wait for ever
    return target.wait();
  }
  bool serve_until(const std::function<bool()>& done, int other_fd = -1) {
    while (!done()) {
      pollfd events[] = {{injector_->event_fd(), POLLIN, 0}, {other_fd, POLLIN, 0}};
      if (::poll(events, 2, kPatienceMs) <= 0) return false;
      injector_->on_event();
    }
    return true;
  }
  std::vector<launch::InjectReport> of(launch::InjectResult result) const {
    std::vector<launch::InjectReport> out;
    for (const auto& report : reports)
      if (report.result == result) out.push_back(report);
    return out;
  }
  launch::Injector& injector() { return *injector_; }
  int journal_fd() const { return journal_.get(); }

  std::vector<launch::InjectReport> reports;

 private:
  std::vector<launch::InjectListener> listeners_;
  UniqueFd journal_;
  std::unique_ptr<launch::Injector> injector_;
};

}  // namespace updagent::test
