#include "agent/launch/notify_server.hpp"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "agent/launch/notify_bind.hpp"

namespace updagent::launch {
namespace {

using base::Result;
using base::UniqueFd;

constexpr std::uint64_t kSocketTag = 0;
constexpr std::uint64_t kCloserTag = 1;

void complain(NotifyEvent& event, NotifyProblem problem, std::string text) {
  event.complaints.push_back({problem, std::move(text)});
}

std::string process(pid_t pid) {
  return "process " + std::to_string(pid);
}

// False: nothing of the message counts, and why has been said.
bool may_speak(const NotifyDatagram& datagram, const Membership& membership, NotifyEvent& event) {
  switch (standing_of(datagram.sender, membership)) {
    case Standing::member:
      return true;
    case Standing::gone:
      complain(event, NotifyProblem::sender_gone,
               process(event.sender) +
                   " was gone before its message was read: it must wait "
                   "(as systemd-notify does) or leave notifying to a process that lives on");
      return false;
    case Standing::stranger:
      complain(event, NotifyProblem::stranger,
               process(event.sender) + " (uid " + std::to_string(event.sender_uid) +
                   ") is not one of this generation");
      return false;
  }
  return false;
}

void check_main_pid(const Membership& membership, NotifyEvent& event) {
  if (!event.message.main_pid) return;
  event.main_process = member_process(*event.message.main_pid, membership);
  if (event.main_process) return;
  complain(event, NotifyProblem::main_pid_refused,
           "MAINPID=" + std::to_string(*event.message.main_pid) +
               " is not a process of this generation");
  event.message.main_pid.reset();
}

// The barrier's own descriptor; its sender waits until nobody holds it.
bool is_good_barrier(const NotifyDatagram& datagram, NotifyEvent& event) {
  if (datagram.descriptors.size() == 1) return true;
  complain(
      event, NotifyProblem::refused,
      "BARRIER=1 must carry one descriptor, not " + std::to_string(datagram.descriptors.size()));
  return false;
}

bool read_message(const NotifyDatagram& datagram, NotifyEvent& event) {
  auto message = datagram.text_cut
                     ? Result<NotifyMessage>(base::Error(
                           base::Code::usage, "a notify message is ignored: it is too long"))
                     : parse_notify_message(datagram.text);
  if (!message) {
    complain(event, NotifyProblem::refused, message.error().line());
    return false;
  }
  event.message = std::move(*message);
  for (std::string& line : event.message.malformed)
    complain(event, NotifyProblem::malformed, std::move(line));
  event.message.malformed.clear();
  return !event.message.barrier || is_good_barrier(datagram, event);
}

NotifyEvent judge(NotifyDatagram& datagram, const Membership& membership) {
  NotifyEvent event;
  event.sender = datagram.sender.pid;
  event.sender_uid = datagram.sender.uid;
  if (datagram.control_cut)
    complain(event, NotifyProblem::descriptors_cut,
             "a message of " + process(event.sender) + " came without all of its descriptors");
  event.counts = !datagram.control_cut && may_speak(datagram, membership, event) &&
                 read_message(datagram, event);
  if (!event.counts) {
    event.message = {};
    return event;
  }
  check_main_pid(membership, event);
  if (event.message.store) {
    event.descriptors = std::move(datagram.descriptors);
    datagram.descriptors.clear();
  } else if (!event.message.barrier && !datagram.descriptors.empty()) {
    complain(event, NotifyProblem::descriptors_unexpected,
             std::to_string(datagram.descriptors.size()) + " descriptors came without FDSTORE=1");
  }
  return event;
}

}  // namespace

Result<std::unique_ptr<NotifyServer>> NotifyServer::bind(const std::string& path, uid_t service_uid,
                                                         Membership membership) {
  UPD_ASSIGN(UniqueFd socket, bind_notify_socket(path, service_uid));
  return serve(std::move(socket), path, std::move(membership));
}

Result<std::unique_ptr<NotifyServer>> NotifyServer::adopt(UniqueFd socket, const std::string& path,
                                                          Membership membership) {
  UPD_TRY(prepare_notify_socket(socket.get()));
  return serve(std::move(socket), path, std::move(membership));
}

Result<std::unique_ptr<NotifyServer>> NotifyServer::serve(UniqueFd socket, const std::string& path,
                                                          Membership membership) {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return base::system_error(errno, "cannot wait for notify messages");
  epoll_event event{EPOLLIN, {.u64 = kSocketTag}};
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, socket.get(), &event) != 0)
    return base::system_error(errno, "cannot wait for notify messages");
  return std::unique_ptr<NotifyServer>(
      new NotifyServer(std::move(socket), std::move(epoll), path, std::move(membership)));
}

NotifyServer::NotifyServer(UniqueFd socket, UniqueFd epoll, std::string path, Membership membership)
    : socket_(std::move(socket)),
      epoll_(std::move(epoll)),
      path_(std::move(path)),
      membership_(std::move(membership)),
      closer_(epoll_.get(), kCloserTag) {}

NotifyServer::~NotifyServer() {
  // What is still queued can hold the service's descriptors, which are closed with it.
  closer_.take(std::move(socket_));
}

void NotifyServer::on_event(const OnNotify& handler) {
  closer_.on_event();
  for (int i = 0; i < kMaxMessagesPerTurn; ++i) {
    if (closer_.waiting() >= kMaxUnclosedDescriptors || !receive(handler)) break;
  }
  closer_.start();
  listen_to_socket(closer_.waiting() < kMaxUnclosedDescriptors);
}

bool NotifyServer::receive(const OnNotify& handler) {
  auto datagram = receive_notify(socket_.get());
  if (!datagram) return false;
  hear(*datagram, handler);
  return true;
}

void NotifyServer::hear(NotifyDatagram& datagram, const OnNotify& handler) {
  NotifyEvent event = judge(datagram, membership_);
  handler(event);
  for (UniqueFd& left : event.descriptors) closer_.take(std::move(left));
  // A barrier's descriptor is among these: only now, after the handler of everything before it.
  for (UniqueFd& unwanted : datagram.descriptors) closer_.take(std::move(unwanted));
}

void NotifyServer::hear_earlier(std::vector<NotifyDatagram> earlier, const OnNotify& handler) {
  for (NotifyDatagram& datagram : earlier) hear(datagram, handler);
  closer_.start();
}

void NotifyServer::listen_to_socket(bool wanted) {
  if (wanted == listening_) return;
  epoll_event event{wanted ? static_cast<std::uint32_t>(EPOLLIN) : 0U, {.u64 = kSocketTag}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, socket_.get(), &event) == 0) listening_ = wanted;
}

void NotifyServer::remove_path() const {
  struct stat status{};
  if (::lstat(path_.c_str(), &status) == 0 && S_ISSOCK(status.st_mode)) ::unlink(path_.c_str());
}

}  // namespace updagent::launch
