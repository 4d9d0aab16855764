#include "agent/listen/listener.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "agent/listen/diag.hpp"

namespace updagent::listen {
namespace {

using base::Error;
using base::Result;
using base::Status;
using base::UniqueFd;

Status set_flag(int fd, int level, int name, bool value, const char* text) {
  const int number = value ? 1 : 0;
  if (::setsockopt(fd, level, name, &number, sizeof number) == 0) return base::ok();
  return base::system_error(errno, std::string("cannot set ") + text + " on a socket");
}

// One that is ours must not be "stopped" by killing its supervisor.
bool is_another_app(const std::vector<PortHolder>& holders) {
  return std::any_of(holders.begin(), holders.end(), [](const PortHolder& holder) {
    return std::any_of(holder.owners.begin(), holder.owners.end(), [](const SocketOwner& owner) {
      return owner.command.starts_with("updagent-");
    });
  });
}

Error taken(const ListenerSpec& spec, const std::vector<PortHolder>& holders) {
  Error error = base::system_error(
      EADDRINUSE, "cannot listen at " + spec.address.text() + " ('" + spec.name + "')");
  if (holders.empty()) return error;
  error = std::move(error).got("it is held by " + describe(holders));
  if (is_another_app(holders))
    return std::move(error).hint(
        "another app of updagent has that address: choose another one, in the release or for this "
        "node with [run] listeners, or end that app's service with updagent stop");
  return std::move(error).hint(
      "stop that process, take it over with 'updagent adopt', or choose another address");
}

Error cannot_listen(int errno_value, const ListenerSpec& spec) {
  if (errno_value == EADDRINUSE)
    return taken(spec, holders_of(spec.address).value_or(std::vector<PortHolder>()));
  return base::system_error(errno_value,
                            "cannot listen at " + spec.address.text() + " ('" + spec.name + "')");
}

}  // namespace

Status set_address_flags(int fd, const Address& address) {
  if (!address.is_inet()) return base::ok();
  UPD_TRY(set_flag(fd, SOL_SOCKET, SO_REUSEPORT, true, "SO_REUSEPORT"));
  // Connections of an earlier start in TIME_WAIT are no reason to refuse. Not for udp, where it
  // would let others in.
  if (address.transport == Transport::tcp)
    UPD_TRY(set_flag(fd, SOL_SOCKET, SO_REUSEADDR, true, "SO_REUSEADDR"));
  if (address.family == AF_INET6)
    // always said: the default is a sysctl
    UPD_TRY(set_flag(fd, IPPROTO_IPV6, IPV6_V6ONLY, address.v6only, "IPV6_V6ONLY"));
  return base::ok();
}

Result<UniqueFd> open_socket(const ListenerSpec& spec, const BeforeBind& before_bind) {
  const Address& address = spec.address;
  if (address.transport == Transport::unix_path)
    return Error(base::Code::internal, "a unix path has a socket per generation: unix_path.hpp");
  const bool stream = address.transport != Transport::udp;
  const int flags = SOCK_CLOEXEC | (spec.nonblocking ? SOCK_NONBLOCK : 0);
  UniqueFd fd(::socket(address.family, (stream ? SOCK_STREAM : SOCK_DGRAM) | flags, 0));
  if (!fd) return base::system_error(errno, "cannot open a socket for " + address.text());
  UPD_TRY_CONTEXT(set_address_flags(fd.get(), address), spec.name);
  UPD_TRY_CONTEXT(apply_options(fd.get(), spec.options), spec.name);
  if (before_bind) UPD_TRY_CONTEXT(before_bind(fd.get()), spec.name);
  const SocketAddress raw = to_sockaddr(address);
  if (::bind(fd.get(), raw.get(), raw.length) != 0) return cannot_listen(errno, spec);
  if (stream && ::listen(fd.get(), spec.backlog) != 0) return cannot_listen(errno, spec);
  return fd;
}

Status check_free(const ListenerSpec& spec, const InodeSet& own) {
  if (!spec.address.is_inet()) return base::ok();
  auto strangers = strangers_at(spec.address, own);
  if (!strangers) return base::ok();  // a kernel that doesn't tell refuses nobody
  // what is bound and does not listen takes no connection away; bind(2) judges that
  std::erase_if(*strangers, [](const PortHolder& holder) { return !holder.listening; });
  if (strangers->empty()) return base::ok();
  return taken(spec, *strangers);
}

Status lock_filter(int fd) {
  return set_flag(fd, SOL_SOCKET, SO_LOCK_FILTER, true, "SO_LOCK_FILTER");
}

Result<AcceptQueue> accept_queue(int fd) {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0)
    return base::system_error(errno, "cannot ask a listening socket for its queue");
  if (info.tcpi_state != TCP_LISTEN)
    return Error(base::Code::io_error, "the socket does not listen any more")
        .expected("state " + std::to_string(TCP_LISTEN))
        .got("state " + std::to_string(info.tcpi_state));
  return AcceptQueue{info.tcpi_unacked, info.tcpi_sacked};
}

Result<std::uint32_t> inode_of(int fd) {
  struct stat status{};
  if (::fstat(fd, &status) != 0) return base::system_error(errno, "cannot look at a socket");
  return static_cast<std::uint32_t>(status.st_ino);
}

}  // namespace updagent::listen
