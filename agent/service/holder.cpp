#include "agent/service/holder.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "agent/base/clock.hpp"
#include "agent/service/messages.hpp"

namespace updagent::service {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::Status;
using base::UniqueFd;

// Local, and the other end does nothing else.
constexpr base::Milliseconds kHolderPatience{3'000};
constexpr std::size_t kMaxConnections = 8;  // a supervisor, its successor, a curious one

constexpr char kPut = 'P';
constexpr char kDrop = 'D';
constexpr char kGet = 'G';
constexpr char kOne = 'F';
constexpr char kEnd = 'E';
constexpr char kQuit = 'Q';

// --- the process
// ----------------------------------------------------------------------------------

class Keeper {
 public:
  explicit Keeper(UniqueFd listener) : listener_(std::move(listener)) {}

  [[noreturn]] void run() {
    for (;;) {
      std::vector<pollfd> waiting = {{listener_.get(), POLLIN, 0}};
      for (const UniqueFd& connection : connections_)
        waiting.push_back({connection.get(), POLLIN, 0});
      if (::poll(waiting.data(), waiting.size(), -1) < 0 && errno != EINTR) ::_exit(1);
      for (std::size_t i = waiting.size(); i-- > 1;)
        if (waiting[i].revents != 0 && !serve(connections_[i - 1].get()))
          connections_.erase(connections_.begin() + static_cast<std::ptrdiff_t>(i - 1));
      if (waiting[0].revents != 0) take_connection();
    }
  }

 private:
  void take_connection() {
    UniqueFd connection(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!connection || connections_.size() == kMaxConnections ||
        !peer_may_command(connection.get()))
      return;
    connections_.push_back(std::move(connection));
  }

  // One message. False: the connection has ended.
  bool serve(int fd) {
    auto received = receive_message(fd);
    if (!received) return false;
    if (!*received || (*received)->text.empty()) return true;
    Message& message = **received;
    const std::string name = message.text.substr(1);
    switch (message.text.front()) {
      case kPut:
        if (message.descriptors.size() == 1 && (held_.contains(name) || held_.size() < kMaxHeld))
          held_[name] = std::move(message.descriptors.front());
        return true;
      case kDrop:
        held_.erase(name);
        return true;
      case kGet:
        return give_all(fd);
      case kQuit:
        ::_exit(0);
      default:
        return false;
    }
  }

  // The asker reads them one by one; one that stops reading is given up.
  bool give_all(int fd) {
    for (const auto& [name, descriptor] : held_)
      if (!send_patiently(fd, kOne + name, descriptor.get())) return false;
    return send_patiently(fd, std::string(1, kEnd), -1);
  }

  static bool send_patiently(int fd, const std::string& text, int descriptor) {
    for (;;) {
      const Status sent = send_message(fd, text, descriptor);
      if (sent) return true;
      if (sent.error().code() != Code::busy) return false;
      pollfd writable{fd, POLLOUT, 0};
      if (::poll(&writable, 1, static_cast<int>(kHolderPatience.count())) != 1) return false;
    }
  }

  UniqueFd listener_;
  std::vector<UniqueFd> connections_;
  std::map<std::string, UniqueFd> held_;
};

[[noreturn]] void become_keeper(UniqueFd listener) {
  ::setsid();
  ::prctl(PR_SET_NAME, "updagent-holder");
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  for (const int number : {SIGHUP, SIGINT, SIGPIPE}) ::signal(number, SIG_IGN);
  ::signal(SIGTERM, SIG_DFL);
  const int null_fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int standard = 0; standard <= 2; ++standard) ::dup2(null_fd, standard);
  ::dup3(listener.get(), 3, O_CLOEXEC);
  static_cast<void>(listener.release());
  ::close_range(4, ~0U, 0);
  static_cast<void>(!::chdir("/"));
  Keeper(UniqueFd(3)).run();
}

// A child of init, not ours: nobody has to reap it, and our own children stay services.
Status fork_keeper(UniqueFd listener) {
  const pid_t middle = ::fork();
  if (middle < 0) return base::system_error(errno, "cannot fork the holder of descriptors");
  if (middle == 0) {
    const pid_t keeper = ::fork();
    if (keeper == 0) become_keeper(std::move(listener));
    ::_exit(keeper < 0 ? 1 : 0);
  }
  int status = 0;
  while (::waitpid(middle, &status, 0) < 0 && errno == EINTR) {
  }
  if (status != 0) return Error(Code::io_error, "cannot fork the holder of descriptors");
  return base::ok();
}

}  // namespace

void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

Result<Holder> Holder::connect_or_start(const std::string& path) {
  auto running = connect_to(path);
  if (running) return Holder(std::move(*running), true);
  if (running.error().code() != Code::not_found) return std::move(running).error();
  UPD_ASSIGN(UniqueFd listener, listen_at(path));
  UPD_TRY(fork_keeper(std::move(listener)));
  UPD_ASSIGN(UniqueFd connection, connect_to(path));
  return Holder(std::move(connection), false);
}

Status Holder::put(const std::string& name, int fd) {
  if (name.size() > kMaxHeldName)
    return Error(Code::internal, "the name of a held descriptor is too long");
  return send_message(connection_.get(), kPut + name, fd);
}

Status Holder::drop(const std::string& name) {
  return send_message(connection_.get(), kDrop + name);
}

Result<std::map<std::string, UniqueFd>> Holder::take_all() {
  std::map<std::string, UniqueFd> all;
  UPD_TRY(send_message(connection_.get(), std::string(1, kGet)));
  const base::Deadline end = base::Deadline::in(kHolderPatience);
  while (all.size() <= kMaxHeld) {
    UPD_ASSIGN(auto message, receive_message(connection_.get()));
    if (message && message->text.starts_with(kEnd)) return all;
    if (message && message->text.starts_with(kOne) && message->descriptors.size() == 1) {
      all[message->text.substr(1)] = std::move(message->descriptors.front());
      continue;
    }
    pollfd readable{connection_.get(), POLLIN, 0};
    if (::poll(&readable, 1, static_cast<int>(end.left().count())) != 1)
      return Error(Code::timed_out, "the holder of descriptors does not answer");
  }
  return Error(Code::damaged, "the holder of descriptors has more than it may");
}

void Holder::dismiss() {
  static_cast<void>(send_message(connection_.get(), std::string(1, kQuit)));
  connection_.reset();
}

}  // namespace updagent::service
