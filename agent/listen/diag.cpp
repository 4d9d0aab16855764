#include "agent/listen/diag.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <cstring>

#include "agent/listen/inet_diag.hpp"
#include "agent/listen/unix_diag.hpp"

namespace updagent::listen {
namespace {

using base::Error;
using base::Result;
using base::Status;

constexpr std::uint32_t kAllStates = ~std::uint32_t{0};
constexpr int kBoundInactive = 13;        // TCP_BOUND_INACTIVE, Linux 6.8: bound, neither side of a
                                          // connection nor listening; older kernels ignore it
constexpr std::size_t kMaxDescribed = 4;  // holders in one sentence

// Listening sockets are found in a moment; for those that are only bound the kernel walks all ports
// of the machine (1.4 ms where that table has 65,536 rows, several times that under load).
enum class Holding { listening, bound_too };

std::uint32_t states_of(Holding holding, Transport transport) {
  if (transport == Transport::udp) return kAllStates;
  return 1U << TCP_LISTEN | (holding == Holding::bound_too ? 1U << kBoundInactive : 0U);
}

// The words of an inet_diag_sockid as an address; its interface only where it is part of it.
Address to_address(int family, const __be32* words, __be16 port, std::uint32_t interface,
                   Transport transport) {
  sockaddr_storage storage{};
  if (family == AF_INET) {
    auto* raw = reinterpret_cast<sockaddr_in*>(&storage);
    raw->sin_family = AF_INET;
    raw->sin_port = port;
    std::memcpy(&raw->sin_addr, words, sizeof raw->sin_addr);
  } else {
    auto* raw = reinterpret_cast<sockaddr_in6*>(&storage);
    raw->sin6_family = AF_INET6;
    raw->sin6_port = port;
    std::memcpy(&raw->sin6_addr, words, sizeof raw->sin6_addr);
    if (IN6_IS_ADDR_LINKLOCAL(&raw->sin6_addr)) raw->sin6_scope_id = interface;
  }
  const auto address = from_sockaddr(storage, sizeof storage, transport == Transport::tcp);
  return address ? *address : Address{};
}

std::optional<PortHolder> parse_holder(const DiagAnswer& answer, const Address& wanted) {
  const auto* message = answer.header<inet_diag_msg>();
  if (message == nullptr) return std::nullopt;
  PortHolder holder;
  holder.address = local_address(*message, wanted.transport);
  const auto v6only = answer.attribute(sizeof(inet_diag_msg), INET_DIAG_SKV6ONLY);
  if (holder.address.family == AF_INET6)
    holder.address.v6only = v6only.empty() || v6only[0] != std::byte{0};
  if (!overlaps(holder.address, wanted)) return std::nullopt;
  holder.inode = message->idiag_inode;
  holder.uid = message->idiag_uid;
  holder.listening = message->idiag_state == TCP_LISTEN || wanted.transport == Transport::udp;
  if (message->idiag_state == TCP_LISTEN)
    holder.queue = {message->idiag_rqueue, message->idiag_wqueue};
  return holder;
}

Result<std::vector<PortHolder>> inet_holders_of(const Address& address, Holding holding) {
  std::vector<PortHolder> holders;
  for (const int family : {AF_INET, AF_INET6}) {
    const auto request = inet_request(family, address.transport, address.port,
                                      states_of(holding, address.transport));
    UPD_TRY(collect<PortHolder>(bytes_of(request), holders, [&](const DiagAnswer& answer) {
      return parse_holder(answer, address);
    }));
  }
  return holders;
}

void name_owners(std::vector<PortHolder>& holders) {
  if (holders.empty()) return;
  std::vector<std::uint32_t> inodes;
  inodes.reserve(holders.size());
  for (const PortHolder& holder : holders) inodes.push_back(holder.inode);
  const auto owners = owners_of(std::move(inodes));
  for (PortHolder& holder : holders) {
    const auto found = owners.find(holder.inode);
    if (found != owners.end()) holder.owners = found->second;
  }
}

std::string describe(const PortHolder& holder) {
  std::string out;
  for (const SocketOwner& owner : holder.owners) {
    const bool same_command =
        &owner != &holder.owners.front() && owner.command == holder.owners.front().command;
    if (!out.empty()) out += ", ";
    out += same_command ? std::to_string(owner.pid)
                        : owner.command + " pid " + std::to_string(owner.pid);
  }
  if (out.empty())
    out = "a process that can't be seen from here (uid " + std::to_string(holder.uid) + ")";
  return out + " at " + holder.address.text() + (holder.listening ? "" : ", not listening");
}

// `take` is not called when the kernel knows nothing of the connection.
template <class Take>
Status ask_of_connection(const Address& server, const Address& client, const Take& take) {
  if (server.family != client.family || !server.is_inet())
    return Error(base::Code::internal, "not the two ends of a tcp connection")
        .got(server.text() + " and " + client.text());
  auto request = inet_request(server.family, Transport::tcp, server.port, kAllStates);
  request.id.idiag_dport = htons(client.port);
  std::memcpy(request.id.idiag_src, server.ip.data(), server.ip.size());
  std::memcpy(request.id.idiag_dst, client.ip.data(), client.ip.size());
  request.id.idiag_if = server.scope;
  UPD_TRY(ask_exactly(bytes_of(request), [&](const DiagAnswer& answer) {
    const auto* message = answer.header<inet_diag_msg>();
    // without such a connection the kernel answers with the listening socket
    if (message != nullptr && message->idiag_state != TCP_LISTEN) take(*message);
  }));
  return base::ok();
}

// What a server's socket that nobody holds says about its past.
Acceptance without_inode(int state) {
  switch (state) {
    case TCP_CLOSE:
      return Acceptance::gone;
    case TCP_FIN_WAIT1:
    case TCP_FIN_WAIT2:
    case TCP_CLOSING:
    case TCP_LAST_ACK:
    case TCP_TIME_WAIT:
      return Acceptance::accepted;  // our side closed it: only who has accepted can
    default:
      return Acceptance::waiting;
  }
}

}  // namespace

inet_diag_req_v2 inet_request(int family, Transport transport, std::uint16_t port,
                              std::uint32_t states) {
  inet_diag_req_v2 request{};
  request.sdiag_family = static_cast<std::uint8_t>(family);
  request.sdiag_protocol = transport == Transport::tcp ? IPPROTO_TCP : IPPROTO_UDP;
  request.idiag_states = states;
  request.id.idiag_sport = htons(port);
  request.id.idiag_cookie[0] = INET_DIAG_NOCOOKIE;
  request.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  return request;
}

Address local_address(const inet_diag_msg& message, Transport transport) {
  return to_address(message.idiag_family, message.id.idiag_src, message.id.idiag_sport,
                    message.id.idiag_if, transport);
}

Address remote_address(const inet_diag_msg& message, Transport transport) {
  return to_address(message.idiag_family, message.id.idiag_dst, message.id.idiag_dport,
                    message.id.idiag_if, transport);
}

Result<std::vector<PortHolder>> holders_of(const Address& address) {
  UPD_ASSIGN(std::vector<PortHolder> holders, address.is_inet()
                                                  ? inet_holders_of(address, Holding::bound_too)
                                                  : unix_holders_of(address));
  name_owners(holders);
  return holders;
}

Result<std::vector<PortHolder>> strangers_at(const Address& address, const InodeSet& own) {
  UPD_ASSIGN(std::vector<PortHolder> holders, address.is_inet()
                                                  ? inet_holders_of(address, Holding::listening)
                                                  : unix_holders_of(address));
  std::erase_if(holders, [&](const PortHolder& holder) { return own.has(holder.inode); });
  name_owners(holders);
  return holders;
}

bool in_group_of(const PortHolder& holder, const Address& address) {
  return holder.listening && holder.address == address;
}

std::string describe(const std::vector<PortHolder>& holders) {
  std::string out;
  for (std::size_t i = 0; i < std::min(holders.size(), kMaxDescribed); ++i) {
    if (!out.empty()) out += "; ";
    out += describe(holders[i]);
  }
  if (holders.size() > kMaxDescribed)
    out += "; and " + std::to_string(holders.size() - kMaxDescribed) + " more";
  return out;
}

Result<Acceptance> acceptance(const Address& server, const Address& client) {
  Acceptance answered = Acceptance::gone;
  UPD_TRY(ask_of_connection(server, client, [&](const inet_diag_msg& message) {
    answered = message.idiag_inode != 0 ? Acceptance::accepted : without_inode(message.idiag_state);
  }));
  return answered;
}

Result<std::uint32_t> accepted_socket(const Address& server, const Address& client) {
  std::uint32_t inode = 0;
  UPD_TRY(ask_of_connection(server, client,
                            [&](const inet_diag_msg& message) { inode = message.idiag_inode; }));
  return inode;
}

}  // namespace updagent::listen
