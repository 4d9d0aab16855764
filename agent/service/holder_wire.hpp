// What a supervisor and the holder of its descriptors say to each other: a letter, a name, a
// descriptor (messages.hpp).
#pragma once

#include <optional>
#include <string>

#include "agent/base/clock.hpp"
#include "agent/launch/notify_datagram.hpp"
#include "agent/service/messages.hpp"

namespace updagent::service {

// Local, and the other end does nothing else.
inline constexpr base::Milliseconds kHolderPatience{3'000};

// The supervisor's.
inline constexpr char kPut = 'P';
inline constexpr char kPutNotify = 'N';  // a notify socket: it is also read, see holder_process.hpp
inline constexpr char kDrop = 'D';
inline constexpr char kGet = 'G';   // answered with kOne for each, and kEnd
inline constexpr char kHear = 'H';  // with kSaid for each, its kSaidDescriptor behind it, and kEnd
inline constexpr char kForget = 'V';  // all that kHear would tell
inline constexpr char kQuit = 'Q';
// The holder's.
inline constexpr char kOne = 'F';
inline constexpr char kSaid = 'S';  // of the sender's pidfd, if there is one
inline constexpr char kSaidDescriptor = 'X';
inline constexpr char kEnd = 'E';

// A notify message without its descriptors; the name is its socket's.
struct Said {
  std::string socket;
  launch::NotifyDatagram datagram;
};
std::string said_text(const std::string& socket, const launch::NotifyDatagram& datagram);
// Takes the pidfd out of `message`. Nothing: it is no such message.
std::optional<Said> read_said(Message& message);

// Waits for a reader that is slow, at most kHolderPatience; false: it is given up.
bool send_patiently(int fd, const std::string& text, int descriptor = -1);

}  // namespace updagent::service
