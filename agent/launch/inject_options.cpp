#include "agent/launch/inject_options.hpp"

#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "agent/base/unique_fd.hpp"

// Younger than the headers that we build with (asm-generic/socket.h, linux/in.h).
#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif
#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif

namespace updagent::launch {
namespace {

constexpr const char* kIdentity = "decides which sockets share the port: the group agreed on it";
constexpr const char* kAtBind = "has an effect on bind(2) only, which has been done";

#define UPD_OPTION(level, name, size, rule, reason)    \
  OptionRow {                                          \
    #name, level, name, size, OptionRule::rule, reason \
  }
#define UPD_COPY(level, name) OptionRow{#name, level, name, sizeof(int), OptionRule::copy, ""}
#define UPD_GROUP(level, name, rule, reason)                  \
  OptionRow {                                                 \
    #name, level, name, sizeof(int), OptionRule::rule, reason \
  }

// In this order: IP_TOS also sets the priority, so that comes after it.
constexpr OptionRow kRows[] = {
    // what accepted connections inherit, or the listener itself needs
    UPD_COPY(IPPROTO_IP, IP_TOS),
    UPD_COPY(IPPROTO_IP, IP_TTL),
    UPD_COPY(IPPROTO_IP, IP_MINTTL),
    UPD_COPY(IPPROTO_IP, IP_MTU_DISCOVER),
    UPD_COPY(IPPROTO_IP, IP_TRANSPARENT),
    UPD_COPY(IPPROTO_IP, IP_PKTINFO),
    UPD_COPY(IPPROTO_IP, IP_RECVTOS),
    UPD_COPY(IPPROTO_IP, IP_RECVTTL),
    UPD_COPY(IPPROTO_IP, IP_RECVERR),
    UPD_COPY(IPPROTO_IP, IP_RECVORIGDSTADDR),
    UPD_COPY(IPPROTO_IP, IP_MULTICAST_TTL),
    UPD_COPY(IPPROTO_IP, IP_MULTICAST_LOOP),
    UPD_COPY(IPPROTO_IP, IP_MULTICAST_ALL),
    UPD_COPY(IPPROTO_IPV6, IPV6_TCLASS),
    UPD_COPY(IPPROTO_IPV6, IPV6_UNICAST_HOPS),
    UPD_COPY(IPPROTO_IPV6, IPV6_MINHOPCOUNT),
    UPD_COPY(IPPROTO_IPV6, IPV6_MTU_DISCOVER),
    UPD_COPY(IPPROTO_IPV6, IPV6_DONTFRAG),
    UPD_COPY(IPPROTO_IPV6, IPV6_TRANSPARENT),
    UPD_COPY(IPPROTO_IPV6, IPV6_AUTOFLOWLABEL),
    UPD_COPY(IPPROTO_IPV6, IPV6_RECVPKTINFO),
    UPD_COPY(IPPROTO_IPV6, IPV6_RECVHOPLIMIT),
    UPD_COPY(IPPROTO_IPV6, IPV6_RECVTCLASS),
    UPD_COPY(IPPROTO_IPV6, IPV6_RECVERR),
    UPD_COPY(IPPROTO_IPV6, IPV6_RECVORIGDSTADDR),
    UPD_COPY(IPPROTO_IPV6, IPV6_MULTICAST_HOPS),
    UPD_COPY(IPPROTO_IPV6, IPV6_MULTICAST_LOOP),
    UPD_COPY(SOL_SOCKET, SO_PRIORITY),
    UPD_COPY(SOL_SOCKET, SO_MARK),
    UPD_COPY(SOL_SOCKET, SO_KEEPALIVE),
    UPD_OPTION(SOL_SOCKET, SO_LINGER, sizeof(linger), copy, ""),
    UPD_OPTION(SOL_SOCKET, SO_RCVBUF, sizeof(int), copy_buffer, ""),
    UPD_OPTION(SOL_SOCKET, SO_SNDBUF, sizeof(int), copy_buffer, ""),
    UPD_COPY(SOL_SOCKET, SO_RCVLOWAT),
    UPD_OPTION(SOL_SOCKET, SO_RCVTIMEO, sizeof(timeval), copy, ""),
    UPD_OPTION(SOL_SOCKET, SO_SNDTIMEO, sizeof(timeval), copy, ""),
    UPD_COPY(SOL_SOCKET, SO_OOBINLINE),
    UPD_COPY(SOL_SOCKET, SO_BROADCAST),
    UPD_COPY(SOL_SOCKET, SO_DONTROUTE),
    UPD_COPY(SOL_SOCKET, SO_TIMESTAMP),
    UPD_COPY(SOL_SOCKET, SO_TIMESTAMPNS),
    UPD_COPY(SOL_SOCKET, SO_TIMESTAMPING),
    UPD_COPY(SOL_SOCKET, SO_RXQ_OVFL),
    UPD_COPY(SOL_SOCKET, SO_BUSY_POLL),
    UPD_COPY(SOL_SOCKET, SO_ZEROCOPY),
    UPD_OPTION(SOL_SOCKET, SO_MAX_PACING_RATE, sizeof(std::uint64_t), copy, ""),
    UPD_COPY(SOL_SOCKET, SO_PASSCRED),
    UPD_COPY(SOL_SOCKET, SO_PASSSEC),
    UPD_COPY(SOL_SOCKET, SO_PASSPIDFD),
    UPD_COPY(IPPROTO_TCP, TCP_NODELAY),
    UPD_COPY(IPPROTO_TCP, TCP_CORK),
    UPD_COPY(IPPROTO_TCP, TCP_MAXSEG),
    UPD_COPY(IPPROTO_TCP, TCP_KEEPIDLE),
    UPD_COPY(IPPROTO_TCP, TCP_KEEPINTVL),
    UPD_COPY(IPPROTO_TCP, TCP_KEEPCNT),
    UPD_COPY(IPPROTO_TCP, TCP_SYNCNT),
    UPD_COPY(IPPROTO_TCP, TCP_LINGER2),
    UPD_COPY(IPPROTO_TCP, TCP_DEFER_ACCEPT),
    UPD_COPY(IPPROTO_TCP, TCP_WINDOW_CLAMP),
    UPD_COPY(IPPROTO_TCP, TCP_USER_TIMEOUT),
    UPD_COPY(IPPROTO_TCP, TCP_FASTOPEN),
    UPD_COPY(IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE),
    UPD_COPY(IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS),
    UPD_COPY(IPPROTO_TCP, TCP_NOTSENT_LOWAT),
    UPD_COPY(IPPROTO_TCP, TCP_INQ),
    UPD_OPTION(IPPROTO_TCP, TCP_CONGESTION, kMaxOptionBytes, copy, ""),
    UPD_COPY(IPPROTO_UDP, UDP_SEGMENT),
    UPD_COPY(IPPROTO_UDP, UDP_GRO),
    // what all sockets of the group must have in common
    UPD_GROUP(SOL_SOCKET, SO_REUSEADDR, group_quiet, kIdentity),
    UPD_GROUP(SOL_SOCKET, SO_REUSEPORT, group_quiet, kIdentity),
    UPD_GROUP(SOL_SOCKET, SO_BINDTOIFINDEX, group_quiet, kIdentity),
    UPD_GROUP(IPPROTO_IPV6, IPV6_V6ONLY, group_quiet, kIdentity),
    UPD_GROUP(IPPROTO_IP, IP_FREEBIND, group_quiet, kAtBind),
    UPD_GROUP(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, group_quiet, kAtBind),
    UPD_GROUP(IPPROTO_IP, IP_LOCAL_PORT_RANGE, group_quiet, kAtBind),
    UPD_GROUP(SOL_SOCKET, SO_LOCK_FILTER, group_quiet, "is on: nobody may attach to the group"),
    UPD_GROUP(SOL_SOCKET, SO_ATTACH_FILTER, group,
              "filters are locked on all sockets of the group"),
    UPD_GROUP(SOL_SOCKET, SO_INCOMING_CPU, group, "would choose between sockets of the group"),
    UPD_GROUP(IPPROTO_TCP, TCP_SAVE_SYN, group,
              "half-open connections move between sockets of the group, with or without their SYN"),
};
#undef UPD_OPTION
#undef UPD_COPY
#undef UPD_GROUP
// Not in the table, as getsockopt(2) doesn't tell them: keys of TCP_MD5SIG and TCP_AO, and
// multicast memberships (which servers join after bind).

static_assert(std::size(kRows) <= kMaxOptionRows);
static_assert(std::ranges::all_of(kRows, [](const OptionRow& row) {
  return row.size <= kMaxOptionBytes;
}));

// getsockopt(2) of this option gives the number of instructions and copies no more than it may.
// A filter that is eBPF is refused with EACCES: there is one then.
bool has_filter(int fd) {
  char none = 0;
  socklen_t instructions = 0;
  if (::getsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &none, &instructions) != 0)
    return errno == EACCES;
  return instructions > 0;
}

// Of the same family, type and protocol, as socket(2) gives it now.
base::UniqueFd fresh_like(int fd) {
  int domain = 0;
  int type = 0;
  int protocol = 0;
  socklen_t length = sizeof(int);
  if (::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) != 0 ||
      ::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) != 0 ||
      ::getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &length) != 0)
    return {};
  return base::UniqueFd(::socket(domain, type | SOCK_CLOEXEC, protocol));
}

bool set_buffer(int fd, const OptionRow& row, std::span<const std::uint8_t> bytes) {
  int size = 0;
  std::memcpy(&size, bytes.data(), sizeof size);
  size /= 2;
  const int forced = row.option == SO_RCVBUF ? SO_RCVBUFFORCE : SO_SNDBUFFORCE;
  return ::setsockopt(fd, row.level, forced, &size, sizeof size) == 0 ||
         ::setsockopt(fd, row.level, row.option, &size, sizeof size) == 0;
}

}  // namespace

std::span<const OptionRow> option_table() {
  return kRows;
}

bool OptionCopy::read(int servers_socket) {
  const base::UniqueFd fresh = fresh_like(servers_socket);
  if (!fresh) return false;
  for (std::size_t i = 0; i < std::size(kRows); ++i) {
    const OptionRow& row = kRows[i];
    Value value{{}, row.size};
    Value usual{{}, row.size};
    values_[i].size = 0;
    if (row.option == SO_ATTACH_FILTER && row.level == SOL_SOCKET) {
      values_[i].size = has_filter(servers_socket) ? 1 : 0;
      continue;
    }
    if (::getsockopt(servers_socket, row.level, row.option, value.bytes.data(), &value.size) != 0 ||
        ::getsockopt(fresh.get(), row.level, row.option, usual.bytes.data(), &usual.size) != 0)
      continue;
    if (value.size != usual.size || value.bytes != usual.bytes) values_[i] = value;
  }
  return true;
}

void OptionCopy::apply(int listener, OptionOutcomes& outcomes) const {
  for (std::size_t i = 0; i < std::size(kRows); ++i) {
    const Value& value = values_[i];
    outcomes[i] = OptionOutcome::untouched;
    if (value.size == 0 || kRows[i].rule == OptionRule::group_quiet) continue;
    if (kRows[i].rule == OptionRule::group) {
      outcomes[i] = OptionOutcome::kept;
      continue;
    }
    const bool done = kRows[i].rule == OptionRule::copy_buffer
                          ? set_buffer(listener, kRows[i], value.bytes)
                          : ::setsockopt(listener, kRows[i].level, kRows[i].option,
                                         value.bytes.data(), value.size) == 0;
    outcomes[i] = done ? OptionOutcome::copied : OptionOutcome::refused;
  }
}

}  // namespace updagent::launch
