// One message of a notify socket as it came, with what the kernel says of its sender. Nothing is
// judged here: that is notify_server.hpp's business, now or later.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/unique_fd.hpp"
#include "agent/launch/notify_sender.hpp"

namespace updagent::launch {

inline constexpr std::size_t kMaxDescriptorsPerMessage = 253;  // SCM_MAX_FD of the kernel

struct NotifyDatagram {
  std::string text;  // at most kMaxNotifyBytes
  Sender sender;
  std::vector<base::UniqueFd> descriptors;
  bool text_cut = false;     // it was longer
  bool control_cut = false;  // the kernel could not hand over all descriptors
};

// Never waits. Nothing: none is there.
std::optional<NotifyDatagram> receive_notify(int socket_fd);

}  // namespace updagent::launch
