#include "agent/service/listening_check.hpp"

#include <arpa/inet.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "agent/listen/diag.hpp"
#include "agent/listen/unix_diag.hpp"

namespace updagent::service {
namespace {

using base::Status;
using base::UniqueFd;
using listen::Address;
using listen::Transport;

}  // namespace

ListeningCheck::ListeningCheck(Loop& loop, listen::Policy* policy, const ListenerSet& listeners,
                               const Generation& generation, std::function<void()> accepted)
    : loop_(loop), policy_(policy), generation_(generation), accepted_(std::move(accepted)) {
  const std::vector<Address> addresses = listeners.addresses(generation);
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    if (addresses[i].transport == Transport::udp) continue;
    Try one;
    one.server = listen::reachable_address(addresses[i]);
    one.listening_fd = generation.plan().sockets[i].fd.get();
    one.shared = listeners.is_shared_with_others(generation, i);
    tries_.push_back(std::move(one));
  }
  timer_ = loop_.after(base::Milliseconds(0), [this] { look(); });
}

ListeningCheck::~ListeningCheck() {
  for (Try& one : tries_) let_go(one);
}

void ListeningCheck::let_go(Try& one) {
  if (one.probe_entry >= 0 && policy_ != nullptr)
    policy_->clear_probe(static_cast<unsigned>(one.probe_entry));
  one.probe_entry = -1;
  one.client.reset();
}

Status ListeningCheck::connect(Try& one) {
  UniqueFd client(::socket(one.server.family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!client) return base::system_error(errno, "cannot make a socket");
  if (one.server.is_inet()) {
    Address from = one.server;
    from.port = 0;
    const listen::SocketAddress where = listen::to_sockaddr(from);
    if (::bind(client.get(), where.get(), where.length) != 0)
      return base::system_error(errno, "cannot bind a probe's socket");
    UPD_ASSIGN(one.from, listen::address_of_socket(client.get()));
    if (policy_ != nullptr) {
      const std::uint64_t expires_ns =
          listen::steering_now_ns() + static_cast<std::uint64_t>(kAttempt.count()) * 2'000'000;
      UPD_ASSIGN(const unsigned entry,
                 policy_->enter_probe(one.from, generation_.slot(), expires_ns));
      one.probe_entry = static_cast<int>(entry);
    }
  }
  const listen::SocketAddress to = listen::to_sockaddr(one.server);
  if (::connect(client.get(), to.get(), to.length) != 0 && errno != EINPROGRESS)
    return base::system_error(errno, "cannot connect to " + one.server.text());
  one.client = std::move(client);
  one.end = base::Deadline::in(kAttempt);
  return base::ok();
}

bool ListeningCheck::is_accepted(Try& one) {
  if (one.server.is_inet()) {
    const auto answer = listen::acceptance(one.server, one.from);
    if (!answer || *answer != listen::Acceptance::accepted) return false;
  } else {
    const auto queue = listen::unix_accept_queue(one.listening_fd);
    if (!queue || queue->waiting > 0) return false;
  }
  if (!one.shared || is_own(one)) return true;
  let_go(one);  // the next one may be this generation's
  return false;
}

// Of one that was closed at once nobody knows who had it: it counts.
bool ListeningCheck::is_own(const Try& one) const {
  const auto accepted = one.server.is_inet() ? listen::accepted_socket(one.server, one.from)
                                             : listen::accepted_unix_socket(one.client.get());
  if (!accepted || *accepted == 0) return true;
  listen::InodeSet sockets;
  for (const pid_t pid : generation_.processes())
    static_cast<void>(sockets.add_process(pid));  // one that has just ended has none
  return sockets.has(*accepted);
}

std::string ListeningCheck::missing() const {
  for (const Try& one : tries_)
    if (!one.accepted)
      return one.problem.empty() ? "nobody accepts at " + one.server.text() : one.problem;
  return "nothing";
}

void ListeningCheck::look() {
  bool all = true;
  for (Try& one : tries_) {
    if (one.accepted) continue;
    if (!one.client) {
      const Status connected = connect(one);
      one.problem = connected ? "" : connected.error().line();
      if (!connected) let_go(one);
    }
    one.accepted = one.client && is_accepted(one);
    if (one.accepted || one.end.passed()) let_go(one);
    all = all && one.accepted;
  }
  if (!all) {
    timer_ = loop_.after(kAcceptLook, [this] { look(); });
    return;
  }
  timer_.reset();
  const auto accepted = std::move(accepted_);
  accepted();
}

}  // namespace updagent::service
