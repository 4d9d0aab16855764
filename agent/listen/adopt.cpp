#include "agent/listen/adopt.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "agent/base/pidfd.hpp"
#include "agent/listen/diag.hpp"

namespace updagent::listen {
namespace {

using base::Error;
using base::Result;
using base::Status;
using base::UniqueFd;

#ifndef SO_NETNS_COOKIE
constexpr int SO_NETNS_COOKIE = 71;  // Linux 5.14; the same on all machines that updagent runs on
#endif

UniqueFd copy_of(const UniqueFd& process, int number) {
  return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), number, 0)));
}

int number_option(int fd, int name, int otherwise) {
  int value = 0;
  socklen_t size = sizeof value;
  return ::getsockopt(fd, SOL_SOCKET, name, &value, &size) == 0 ? value : otherwise;
}

// The same number for all sockets of one network namespace; 0 when the kernel doesn't tell.
std::uint64_t namespace_of(int fd) {
  std::uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  return ::getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) == 0 ? cookie : 0;
}

bool takes_anybody(int fd) {
  if (number_option(fd, SO_ACCEPTCONN, 0) != 0) return true;
  if (number_option(fd, SO_TYPE, 0) != SOCK_DGRAM || number_option(fd, SO_DOMAIN, 0) == AF_UNIX)
    return false;
  sockaddr_storage peer{};
  socklen_t size = sizeof peer;
  const bool connected = ::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) == 0;
  const auto address = address_of_socket(fd);
  return !connected && address && address->is_inet() && address->port != 0;
}

Result<RunningListener> describe_socket(UniqueFd fd, const ProcessSocket& socket) {
  RunningListener running;
  UPD_ASSIGN(running.address, address_of_socket(fd.get()));
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) return base::system_error(errno, "cannot look at a socket");
  running.uid = status.st_uid;
  running.number = socket.fd;
  running.inode = socket.inode;
  running.protocol = number_option(fd.get(), SO_PROTOCOL, 0);
  running.fd = std::move(fd);
  return running;
}

Error not_there(const std::vector<RunningListener>& running, const ListenerSpec& spec) {
  std::string found;
  for (const RunningListener& one : running)
    found += (found.empty() ? "" : ", ") + one.address.text();
  return Error(base::Code::not_found, "that process does not listen where '" + spec.name + "' does")
      .expected(spec.address.text())
      .got(found.empty() ? "no listening socket" : found)
      .hint("give the process that holds the socket, or change the listener's address");
}

Status set_reuseport(int fd, int value) {
  if (::setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &value, sizeof value) == 0) return base::ok();
  return base::system_error(errno, "cannot change SO_REUSEPORT of the running socket");
}

Status set_owner(int fd, uid_t uid) {
  if (::fchown(fd, uid, static_cast<gid_t>(-1)) == 0) return base::ok();
  return base::system_error(errno, "cannot make the running socket one of our uid");
}

// A socket that is bound and does not listen gets no connection, so trying this disturbs nobody.
Status try_to_join(const ListenerSpec& spec) {
  const Address& address = spec.address;
  const UniqueFd fd(::socket(address.family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return base::system_error(errno, "cannot open a socket");
  UPD_TRY(set_address_flags(fd.get(), address));
  UPD_TRY(apply_options(fd.get(), spec.options));
  const SocketAddress raw = to_sockaddr(address);
  if (::bind(fd.get(), raw.get(), raw.length) == 0) return base::ok();
  if (errno == EADDRINUSE)
    return Error(base::Code::io_error,
                 "a fresh socket can't join the running one at " + address.text() +
                     ": connections made before stand in the way, since the server does not set "
                     "SO_REUSEADDR");
  return base::system_error(errno,
                            "a fresh socket can't join the running one at " + address.text());
}

// Why no fresh socket could ever stand beside this one; empty when one could.
std::string hindrance(const RunningListener& running) {
  if (running.protocol == IPPROTO_MPTCP)
    return "it is an MPTCP socket, which no other can join (Go: GODEBUG=multipathtcp=0)";
  if (running.address.transport == Transport::unix_abstract)
    return "an abstract unix name has one socket";
  if (running.address.transport == Transport::unix_path) return "";
  const UniqueFd own(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (own && namespace_of(own.get()) != namespace_of(running.fd.get()))
    return "it is in another network namespace than updagent";
  return "";
}

// What its connections leave behind, when it has ended, would else keep us from its address for a
// minute. Those from before have it not: no reason to fail.
void let_others_follow(const RunningListener& running) {
  const int on = 1;
  if (running.address.transport == Transport::tcp)
    (void)::setsockopt(running.fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
}

// Nothing changed when it fails.
Status make_joinable(const RunningListener& running, const ListenerSpec& spec) {
  if (!running.address.is_inet()) return base::ok();
  const int fd = running.fd.get();
  const int before = number_option(fd, SO_REUSEPORT, 0);
  UPD_TRY(set_reuseport(fd, 1));
  Status made = running.uid == ::geteuid() ? base::ok() : set_owner(fd, ::geteuid());
  // udp has no way to try: a bound socket already takes datagrams away
  if (made && running.address.transport == Transport::tcp) made = try_to_join(spec);
  if (made) return made;
  static_cast<void>(set_owner(fd, running.uid));
  static_cast<void>(set_reuseport(fd, before));
  return made;
}

}  // namespace

Result<std::vector<RunningListener>> running_listeners(pid_t pid) {
  const UniqueFd process = base::open_pidfd(pid);
  if (!process && errno == ESRCH)
    return Error(base::Code::not_found, "there is no process " + std::to_string(pid));
  if (!process) return base::system_error(errno, "cannot open process " + std::to_string(pid));
  UPD_ASSIGN(const std::vector<ProcessSocket> sockets, sockets_of(pid));
  std::vector<RunningListener> running;
  std::set<std::uint32_t> seen;
  for (const ProcessSocket& socket : sockets) {
    if (!seen.insert(socket.inode).second) continue;
    UniqueFd fd = copy_of(process, socket.fd);
    if (!fd && errno == EBADF) continue;  // closed meanwhile
    if (!fd)
      return base::system_error(errno, "cannot take the sockets of process " + std::to_string(pid));
    if (!takes_anybody(fd.get())) continue;
    auto described = describe_socket(std::move(fd), socket);
    if (described) running.push_back(std::move(*described));  // else a family that is not ours
  }
  return running;
}

Result<RunningListener> take_running(std::vector<RunningListener>& running,
                                     const ListenerSpec& spec) {
  const auto count_if = [&](const auto& fits) {
    return std::count_if(running.begin(), running.end(), fits);
  };
  const auto same = [&](const RunningListener& one) { return one.address == spec.address; };
  const auto containing = [&](const RunningListener& one) {
    return contains(one.address, spec.address);
  };
  const bool exact = count_if(same) > 0;
  const auto found = exact ? count_if(same) : count_if(containing);
  if (found == 0) return not_there(running, spec);
  if (found > 1)
    return Error(base::Code::config_invalid,
                 "the service has several sockets at " + spec.address.text())
        .expected("one")
        .got(std::to_string(found))
        .hint("switch its option 'reuseport' off and restart it once");
  const auto chosen = exact ? std::find_if(running.begin(), running.end(), same)
                            : std::find_if(running.begin(), running.end(), containing);
  RunningListener taken = std::move(*chosen);
  running.erase(chosen);
  return taken;
}

Result<Adopted> adopt(RunningListener running, const ListenerSpec& spec) {
  Adopted adopted;
  adopted.spec = spec;
  adopted.spec.address = running.address;
  UPD_ASSIGN(adopted.spec.options, capture_options(running.fd.get()));
  adopted.spec.nonblocking = (::fcntl(running.fd.get(), F_GETFL) & O_NONBLOCK) != 0;
  const auto queue = accept_queue(running.fd.get());
  if (running.protocol == IPPROTO_TCP && queue)
    adopted.spec.backlog = static_cast<int>(queue->limit);
  adopted.why_shared = hindrance(running);
  if (adopted.why_shared.empty()) {
    const Status joinable = make_joinable(running, adopted.spec);
    if (joinable) {
      adopted.mechanism = Mechanism::steered;
    } else {
      adopted.why_shared = joinable.error().line();
    }
  }
  if (!adopted.why_shared.empty()) let_others_follow(running);
  adopted.fd = std::move(running.fd);
  return adopted;
}

}  // namespace updagent::listen
