#include "agent/service/holder_wire.hpp"

#include <poll.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "agent/base/text.hpp"

namespace updagent::service {

// "S" name, pid, uid, text_cut, control_cut: each with a line feed behind it, then the text.
std::string said_text(const std::string& socket, const launch::NotifyDatagram& datagram) {
  std::string text = kSaid + socket + '\n';
  for (const std::uint64_t number : {static_cast<std::uint64_t>(datagram.sender.pid),
                                     static_cast<std::uint64_t>(datagram.sender.uid),
                                     static_cast<std::uint64_t>(datagram.text_cut),
                                     static_cast<std::uint64_t>(datagram.control_cut)})
    text += std::to_string(number) + '\n';
  return text + datagram.text;
}

std::optional<Said> read_said(Message& message) {
  if (!message.text.starts_with(kSaid)) return std::nullopt;
  std::string_view rest = std::string_view(message.text).substr(1);
  const auto next_line = [&rest]() -> std::string_view {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    return line;
  };
  Said said;
  said.socket = next_line();
  std::array<std::uint64_t, 4> numbers{};
  for (std::uint64_t& number : numbers) {
    const auto value = base::parse_u64(next_line());
    if (!value) return std::nullopt;
    number = *value;
  }
  said.datagram.sender.pid = static_cast<pid_t>(numbers[0]);
  said.datagram.sender.uid = static_cast<uid_t>(numbers[1]);
  said.datagram.text_cut = numbers[2] != 0;
  said.datagram.control_cut = numbers[3] != 0;
  said.datagram.text = rest;
  if (!message.descriptors.empty())
    said.datagram.sender.pidfd = std::move(message.descriptors.front());
  return said;
}

bool send_patiently(int fd, const std::string& text, int descriptor) {
  for (;;) {
    const base::Status sent = send_message(fd, text, descriptor);
    if (sent) return true;
    if (sent.error().code() != base::Code::busy) return false;
    pollfd writable{fd, POLLOUT, 0};
    if (::poll(&writable, 1, static_cast<int>(kHolderPatience.count())) != 1) return false;
  }
}

}  // namespace updagent::service
