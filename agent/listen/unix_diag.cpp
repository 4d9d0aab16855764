#include "agent/listen/unix_diag.hpp"

#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/tcp.h>
#include <sys/stat.h>

#include <cstring>

#include "agent/listen/netlink.hpp"

namespace updagent::listen {
namespace {

using base::Error;
using base::Result;

constexpr std::uint32_t kNoCookie = ~std::uint32_t{0};

unix_diag_req unix_request() {
  unix_diag_req request{};
  request.sdiag_family = AF_UNIX;
  request.udiag_states = 1U << TCP_LISTEN | 1U << TCP_ESTABLISHED;
  request.udiag_show =
      UDIAG_SHOW_NAME | UDIAG_SHOW_VFS | UDIAG_SHOW_PEER | UDIAG_SHOW_RQLEN | UDIAG_SHOW_UID;
  request.udiag_cookie[0] = kNoCookie;
  request.udiag_cookie[1] = kNoCookie;
  return request;
}

template <class Value>
std::optional<Value> value_of(const DiagAnswer& answer, std::uint16_t type) {
  const auto bytes = answer.attribute(sizeof(unix_diag_msg), type);
  Value value{};
  if (bytes.size() < sizeof value) return std::nullopt;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

Address name_of(const DiagAnswer& answer) {
  const auto bytes = answer.attribute(sizeof(unix_diag_msg), UNIX_DIAG_NAME);
  sockaddr_storage storage{};
  auto* raw = reinterpret_cast<sockaddr_un*>(&storage);
  raw->sun_family = AF_UNIX;
  const std::size_t size = std::min(bytes.size(), sizeof raw->sun_path);
  if (size > 0) std::memcpy(raw->sun_path, bytes.data(), size);
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + size);
  const auto address = from_sockaddr(storage, length, true);
  return address ? *address : Address{};
}

std::optional<UnixSocket> parse_unix_socket(const DiagAnswer& answer) {
  const auto* message = answer.header<unix_diag_msg>();
  if (message == nullptr) return std::nullopt;
  UnixSocket socket;
  socket.inode = message->udiag_ino;
  socket.listening = message->udiag_state == TCP_LISTEN;
  socket.address = name_of(answer);
  if (const auto file = value_of<unix_diag_vfs>(answer, UNIX_DIAG_VFS))
    socket.file = file->udiag_vfs_ino;
  socket.uid = value_of<std::uint32_t>(answer, UNIX_DIAG_UID);
  socket.peer = value_of<std::uint32_t>(answer, UNIX_DIAG_PEER).value_or(0);
  if (const auto queue = value_of<unix_diag_rqlen>(answer, UNIX_DIAG_RQLEN)) {
    socket.receive_queue = queue->udiag_rqueue;
    socket.send_queue = queue->udiag_wqueue;
  }
  return socket;
}

bool is_bound_to(const UnixSocket& socket, const Address& address,
                 const std::optional<std::uint32_t>& file) {
  if (!socket.listening) return false;
  // a path names the socket whose file is there now, whatever path that one was bound to
  if (address.transport == Transport::unix_path) return file && socket.file == file;
  return socket.address == address;
}

}  // namespace

Result<std::vector<UnixSocket>> named_unix_sockets() {
  std::vector<UnixSocket> sockets;
  const unix_diag_req request = unix_request();
  UPD_TRY(collect<UnixSocket>(bytes_of(request), sockets,
                              [](const DiagAnswer& answer) -> std::optional<UnixSocket> {
                                auto socket = parse_unix_socket(answer);
                                if (!socket || socket->address.path.empty()) return std::nullopt;
                                return socket;
                              }));
  return sockets;
}

Result<std::optional<UnixSocket>> unix_socket(std::uint32_t inode) {
  std::optional<UnixSocket> found;
  unix_diag_req request = unix_request();
  request.udiag_ino = inode;
  UPD_TRY(ask_exactly(bytes_of(request), [&](const DiagAnswer& answer) {
    if (auto socket = parse_unix_socket(answer)) found = std::move(socket);
  }));
  return found;
}

Result<std::vector<PortHolder>> unix_holders_of(const Address& address) {
  std::optional<std::uint32_t> file;
  struct stat status{};
  if (address.transport == Transport::unix_path && ::stat(address.path.c_str(), &status) == 0)
    file = static_cast<std::uint32_t>(status.st_ino);
  UPD_ASSIGN(const std::vector<UnixSocket> sockets, named_unix_sockets());
  std::vector<PortHolder> holders;
  for (const UnixSocket& socket : sockets) {
    if (!is_bound_to(socket, address, file)) continue;
    PortHolder holder;
    holder.address = socket.address;
    holder.inode = socket.inode;
    holder.uid = socket.uid.value_or(0);
    holder.listening = true;
    holder.queue = {socket.receive_queue, socket.send_queue};
    holders.push_back(std::move(holder));
  }
  return holders;
}

Result<std::vector<Connection>> unix_connections_of(const Address& address,
                                                    const InodeSet& sockets) {
  UPD_ASSIGN(const std::vector<UnixSocket> named, named_unix_sockets());
  std::vector<Connection> connections;
  for (const UnixSocket& socket : named) {
    // an accepted socket has the name of its listener; connections that the service makes have none
    if (socket.listening || !(socket.address == address) || !sockets.has(socket.inode)) continue;
    Connection connection;
    connection.inode = socket.inode;
    connection.client.family = AF_UNIX;
    connection.client.transport = address.transport;
    connection.receive_queue = socket.receive_queue;
    connection.send_queue = socket.send_queue;
    connections.push_back(std::move(connection));
  }
  return connections;
}

Result<std::uint32_t> accepted_unix_socket(int client_fd) {
  UPD_ASSIGN(const std::uint32_t inode, inode_of(client_fd));
  UPD_ASSIGN(const auto socket, unix_socket(inode));
  return socket ? socket->peer : 0;
}

Result<AcceptQueue> unix_accept_queue(int fd) {
  UPD_ASSIGN(const std::uint32_t inode, inode_of(fd));
  UPD_ASSIGN(const auto socket, unix_socket(inode));
  if (!socket || !socket->listening)
    return Error(base::Code::io_error, "the unix socket does not listen");
  return AcceptQueue{socket->receive_queue, socket->send_queue};
}

}  // namespace updagent::listen
