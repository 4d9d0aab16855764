#include <netinet/tcp.h>

#include <cstring>
#include <span>

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

// What the kernel appends to the tcp_info of netinet/tcp.h; that of linux/tcp.h can't stand beside
// it.
struct TcpCounters {
  std::uint64_t pacing_rate;
  std::uint64_t max_pacing_rate;
  std::uint64_t bytes_acked;
  std::uint64_t bytes_received;
  std::uint32_t segs_out;
  std::uint32_t segs_in;
  std::uint32_t notsent_bytes;
  std::uint32_t min_rtt;
  std::uint32_t data_segs_in;
  std::uint32_t data_segs_out;
};
static_assert(sizeof(tcp_info) == 104);

bool is_first_answer_due(std::span<const std::byte> bytes) {
  TcpCounters counters{};
  if (bytes.size() < sizeof(tcp_info) + sizeof counters) return false;
  std::memcpy(&counters, bytes.data() + sizeof(tcp_info), sizeof counters);
  return counters.data_segs_in > 0 && counters.data_segs_out == 0;
}

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
  connection.first_answer_due = is_first_answer_due(bytes);
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
  if (connection.first_answer_due) return false;
  if (!connection.since_sent || !connection.since_received) return true;
  return *connection.since_sent >= span && *connection.since_received >= *connection.since_sent;
}

}  // namespace updagent::listen
