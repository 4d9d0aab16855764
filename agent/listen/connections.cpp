#include <netinet/tcp.h>

#include <cstring>

#include "agent/listen/inet_diag.hpp"
#include "agent/listen/unix_diag.hpp"

namespace updagent::listen {
namespace {

using base::Milliseconds;
using base::Result;

// Alive for at least one side; what only the kernel still finishes has no inode any more.
constexpr std::uint32_t kConnected = 1U << TCP_ESTABLISHED | 1U << TCP_CLOSE_WAIT |
                                     1U << TCP_FIN_WAIT1 | 1U << TCP_FIN_WAIT2 | 1U << TCP_CLOSING |
                                     1U << TCP_LAST_ACK;

std::optional<Connection> parse_connection(const DiagAnswer& answer, const Address& address,
                                           const InodeSet& sockets) {
  const auto* message = answer.header<inet_diag_msg>();
  if (message == nullptr || !sockets.has(message->idiag_inode)) return std::nullopt;
  if (!contains(address, local_address(*message, Transport::tcp))) return std::nullopt;
  Connection connection;
  connection.inode = message->idiag_inode;
  connection.client = remote_address(*message, Transport::tcp);
  connection.receive_queue = message->idiag_rqueue;
  connection.send_queue = message->idiag_wqueue;
  const auto bytes = answer.attribute(sizeof(inet_diag_msg), INET_DIAG_INFO);
  if (bytes.size() < offsetof(tcp_info, tcpi_last_ack_recv)) return connection;
  tcp_info info{};
  std::memcpy(&info, bytes.data(), std::min(bytes.size(), sizeof info));
  connection.unacknowledged = info.tcpi_unacked;
  connection.since_sent = Milliseconds(info.tcpi_last_data_sent);
  connection.since_received = Milliseconds(info.tcpi_last_data_recv);
  return connection;
}

}  // namespace

Result<std::vector<Connection>> connections_of(const Address& address, const InodeSet& sockets) {
  if (!address.is_inet()) return unix_connections_of(address, sockets);
  std::vector<Connection> connections;
  if (address.transport == Transport::udp) return connections;
  // A connection is of its listener's family, IPv4 clients of a dual-stack one too. Each family
  // that is asked for costs the kernel a walk through all connections of the machine.
  auto request = inet_request(address.family, Transport::tcp, address.port, kConnected);
  request.idiag_ext = 1U << (INET_DIAG_INFO - 1);
  UPD_TRY(collect<Connection>(bytes_of(request), connections, [&](const DiagAnswer& answer) {
    return parse_connection(answer, address, sockets);
  }));
  return connections;
}

bool is_quiet(const Connection& connection, Milliseconds span) {
  if (connection.receive_queue != 0 || connection.send_queue != 0 || connection.unacknowledged != 0)
    return false;
  if (!connection.since_sent || !connection.since_received) return true;
  return *connection.since_sent >= span && *connection.since_received >= *connection.since_sent;
}

}  // namespace updagent::listen
