#include "agent/service/messages.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace updagent::service {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::Status;
using base::UniqueFd;

constexpr int kBacklog = 64;
constexpr mode_t kSocketMode = 0600;

union Control {
  cmsghdr aligned;
  std::array<char, CMSG_SPACE(sizeof(int) * kMaxMessageDescriptors)> bytes;
};

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return Error(Code::config_invalid, "the path of a control socket is too long: '" + path + "'")
        .expected("at most " + std::to_string(sizeof address.sun_path - 1) + " bytes")
        .hint("choose a shorter --root");
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

void take_descriptors(msghdr& header, Message& message) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof fd);
      message.descriptors.emplace_back(fd);
    }
  }
}

}  // namespace

Status send_message(int fd, std::string_view text, int descriptor) {
  if (text.size() > kMaxMessageBytes)
    return Error(Code::internal, "a control message of " + std::to_string(text.size()) + " bytes");
  iovec part{const_cast<char*>(text.data()), text.size()};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  Control control{};
  if (descriptor >= 0) {
    header.msg_control = control.bytes.data();
    header.msg_controllen = CMSG_SPACE(sizeof descriptor);
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof descriptor);
    std::memcpy(CMSG_DATA(rights), &descriptor, sizeof descriptor);
  }
  for (;;) {
    if (::sendmsg(fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return base::ok();
    if (errno == EINTR) continue;
    if (errno == EAGAIN)
      return Error(Code::busy, "the other end of a control connection does not read");
    return base::system_error(errno, "cannot send a control message");
  }
}

Result<std::optional<Message>> receive_message(int fd) {
  Message message;
  message.text.resize(kMaxMessageBytes);
  iovec part{message.text.data(), message.text.size()};
  Control control{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.bytes.data();
  header.msg_controllen = sizeof control.bytes;
  ssize_t count = -1;
  do {
    count = ::recvmsg(fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (count < 0 && errno == EINTR);
  if (count < 0 && errno == EAGAIN) return std::optional<Message>();
  if (count < 0) return base::system_error(errno, "cannot receive a control message");
  take_descriptors(header, message);
  if (count == 0) return Error(Code::io_error, "the control connection was closed");
  if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0)
    return Error(Code::io_error, "a control message was longer than it may be");
  message.text.resize(static_cast<std::size_t>(count));
  return std::optional<Message>(std::move(message));
}

Result<UniqueFd> listen_at(const std::string& path) {
  UPD_ASSIGN(const sockaddr_un address, address_of(path));
  UniqueFd listener(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener) return base::system_error(errno, "cannot make a control socket");
  ::unlink(path.c_str());
  const mode_t before = ::umask(0777 & ~kSocketMode);
  const int bound =
      ::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  const int failed = errno;
  ::umask(before);
  if (bound != 0) return base::system_error(failed, "cannot bind '" + path + "'");
  if (::listen(listener.get(), kBacklog) != 0)
    return base::system_error(errno, "cannot listen at '" + path + "'");
  return listener;
}

Result<UniqueFd> connect_to(const std::string& path) {
  UPD_ASSIGN(const sockaddr_un address, address_of(path));
  UniqueFd connection(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!connection) return base::system_error(errno, "cannot make a control socket");
  if (::connect(connection.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
    return connection;
  if (errno == ENOENT || errno == ECONNREFUSED)
    return Error(Code::not_found, "nobody listens at '" + path + "'");
  return base::system_error(errno, "cannot connect to '" + path + "'");
}

bool peer_may_command(int fd) {
  ucred peer{};
  socklen_t length = sizeof peer;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return false;
  return peer.uid == 0 || peer.uid == ::geteuid();
}

}  // namespace updagent::service
