#include "agent/launch/notify_datagram.hpp"

#include <sys/socket.h>

#include <array>
#include <cstring>

#include "agent/launch/notify_message.hpp"

#ifndef SCM_PIDFD
#define SCM_PIDFD 0x04  // Linux 6.5, linux/socket.h
#endif

namespace updagent::launch {
namespace {

using base::UniqueFd;

template <class T>
T control_value(const cmsghdr& header) {
  T value{};
  std::memcpy(&value, CMSG_DATA(&header), sizeof value);
  return value;
}

void take_descriptors(const cmsghdr& header, std::vector<UniqueFd>& out) {
  const std::size_t count = (header.cmsg_len - CMSG_LEN(0)) / sizeof(int);
  for (std::size_t i = 0; i < count; ++i) {
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(&header) + i * sizeof(int), sizeof fd);
    out.emplace_back(fd);
  }
}

void take_control(const cmsghdr& header, NotifyDatagram& out) {
  if (header.cmsg_level != SOL_SOCKET) return;
  if (header.cmsg_type == SCM_RIGHTS) take_descriptors(header, out.descriptors);
  if (header.cmsg_type == SCM_CREDENTIALS && header.cmsg_len >= CMSG_LEN(sizeof(ucred))) {
    const auto credentials = control_value<ucred>(header);
    out.sender.pid = credentials.pid;
    out.sender.uid = credentials.uid;
  }
  // A negative number is an errno: the process is gone, or we are out of descriptors.
  if (header.cmsg_type == SCM_PIDFD && header.cmsg_len >= CMSG_LEN(sizeof(int)))
    out.sender.pidfd.reset(control_value<int>(header));
}

struct Buffers {
  std::array<char, kMaxNotifyBytes> text;
  alignas(
      cmsghdr) std::array<char, CMSG_SPACE(kMaxDescriptorsPerMessage * sizeof(int)) +
                                    CMSG_SPACE(sizeof(ucred)) + CMSG_SPACE(sizeof(int))> control;
};

}  // namespace

std::optional<NotifyDatagram> receive_notify(int socket_fd) {
  Buffers buffers;
  iovec text{buffers.text.data(), buffers.text.size()};
  msghdr message{};
  message.msg_iov = &text;
  message.msg_iovlen = 1;
  message.msg_control = buffers.control.data();
  message.msg_controllen = buffers.control.size();
  const ssize_t length = ::recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (length < 0) return std::nullopt;
  NotifyDatagram out;
  out.text.assign(buffers.text.data(), static_cast<std::size_t>(length));
  out.text_cut = (message.msg_flags & MSG_TRUNC) != 0;
  out.control_cut = (message.msg_flags & MSG_CTRUNC) != 0;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header))
    take_control(*header, out);
  return out;
}

}  // namespace updagent::launch
