#include "agent/service/holder_process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "agent/base/detached_process.hpp"
#include "agent/launch/descriptor_closer.hpp"
#include "agent/launch/notify_memory.hpp"
#include "agent/launch/notify_server.hpp"
#include "agent/service/holder.hpp"
#include "agent/service/holder_wire.hpp"
#include "agent/service/messages.hpp"

namespace updagent::service {
namespace {

using base::Code;
using base::Error;
using base::Status;
using base::UniqueFd;

constexpr std::size_t kMaxConnections = 8;  // a supervisor, its successor, a curious one

class Keeper {
 public:
  explicit Keeper(UniqueFd listener)
      : listener_(std::move(listener)), closing_(::epoll_create1(EPOLL_CLOEXEC)) {}

  [[noreturn]] void run() {
    for (;;) {
      std::vector<pollfd> waiting = {{listener_.get(), POLLIN, 0}, {closing_.get(), POLLIN, 0}};
      for (const UniqueFd& connection : connections_)
        waiting.push_back({connection.get(), POLLIN, 0});
      const std::size_t first_notify = waiting.size();
      if (nobody_else_reads())
        for (const auto& [name, memory] : memories_)
          waiting.push_back({held_.at(name).get(), POLLIN, 0});
      if (::poll(waiting.data(), waiting.size(), -1) < 0) {
        if (errno == EINTR) continue;
        ::_exit(1);
      }
      if (first_notify < waiting.size()) read_notify(std::span(waiting).subspan(first_notify));
      for (std::size_t i = first_notify; i-- > kFirstConnection;)
        if (waiting[i].revents != 0 && !serve(connections_[i - kFirstConnection].get()))
          connections_.erase(connections_.begin() +
                             static_cast<std::ptrdiff_t>(i - kFirstConnection));
      if (waiting[0].revents != 0) take_connection();
      closer_.on_event();
    }
  }

 private:
  static constexpr std::size_t kFirstConnection = 2;  // behind the listener and the closer

  // A service whose descriptors can't be closed waits for itself.
  bool nobody_else_reads() const {
    return connections_.empty() && closer_.waiting() < launch::kMaxUnclosedDescriptors;
  }

  void read_notify(std::span<const pollfd> sockets) {
    std::size_t i = 0;
    for (auto& [name, memory] : memories_)
      if (sockets[i++].revents != 0) memory.read(held_.at(name).get(), closer_);
  }

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
        static_cast<void>(put(name, message));
        return true;
      case kPutNotify:
        if (put(name, message)) memories_.try_emplace(name);
        return true;
      case kDrop:
        drop(name);
        return true;
      case kGet:
        return give_all(fd);
      case kHear:
        return tell_all(fd);
      case kForget:
        for (auto& [socket, memory] : memories_) memory.forget(closer_);
        return true;
      case kQuit:
        ::_exit(0);
      default:
        return false;
    }
  }

  bool put(const std::string& name, Message& message) {
    if (message.descriptors.size() != 1 || (!held_.contains(name) && held_.size() >= kMaxHeld))
      return false;
    held_[name] = std::move(message.descriptors.front());
    return true;
  }

  void drop(const std::string& name) {
    if (const auto memory = memories_.find(name); memory != memories_.end()) {
      memory->second.forget(closer_);
      memories_.erase(memory);
    }
    held_.erase(name);
  }

  // The asker reads them one by one; one that stops reading is given up.
  bool give_all(int fd) {
    for (const auto& [name, descriptor] : held_)
      if (!send_patiently(fd, kOne + name, descriptor.get())) return false;
    return send_patiently(fd, std::string(1, kEnd));
  }

  bool tell_all(int fd) {
    for (const auto& [name, memory] : memories_)
      for (const launch::NotifyDatagram& message : memory.messages())
        if (!tell(fd, name, message)) return false;
    return send_patiently(fd, std::string(1, kEnd));
  }

  static bool tell(int fd, const std::string& name, const launch::NotifyDatagram& message) {
    if (!send_patiently(fd, said_text(name, message), message.sender.pidfd.get())) return false;
    return std::ranges::all_of(message.descriptors, [fd](const UniqueFd& descriptor) {
      return send_patiently(fd, std::string(1, kSaidDescriptor), descriptor.get());
    });
  }

  UniqueFd listener_;
  std::vector<UniqueFd> connections_;
  std::map<std::string, UniqueFd> held_;
  std::map<std::string, launch::NotifyMemory> memories_;  // of the notify sockets among them
  UniqueFd closing_;
  launch::DescriptorCloser closer_{closing_.get(), 0};
};

[[noreturn]] void become_keeper(UniqueFd listener) {
  ::setsid();
  ::prctl(PR_SET_NAME, "updagent-holder");
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  for (const int number : {SIGHUP, SIGINT, SIGPIPE}) ::signal(number, SIG_IGN);
  ::signal(SIGTERM, SIG_DFL);
  // what it holds must be held, with whatever streams
  static_cast<void>(base::leave_standard_streams());
  ::dup3(listener.get(), 3, O_CLOEXEC);
  static_cast<void>(listener.release());
  ::close_range(4, ~0U, 0);
  static_cast<void>(!::chdir("/"));
  Keeper(UniqueFd(3)).run();
}

}  // namespace

Status fork_holder(UniqueFd listener) {
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

}  // namespace updagent::service
