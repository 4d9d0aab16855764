// What came to a notify socket while there was no supervisor to judge it. Somebody must read the
// socket then, or the service blocks on a queue that is full after some 11 messages
// (net.unix.max_dgram_qlen). What is read is kept as it came, with the kernel's word on its sender,
// and judged by the next supervisor as it would judge a message that comes just then.
//
// Kept is what changes something, so that a service that only lives costs nothing: a sign of life
// (WATCHDOG=1) is forgotten, since the next supervisor gives everybody a whole interval; of STATUS,
// and of a message that is said again word by word, each sender's newest stays. Of the rest the
// newest kMaxRemembered stay.
#pragma once

#include <deque>

#include "agent/base/error.hpp"
#include "agent/launch/descriptor_closer.hpp"
#include "agent/launch/notify_datagram.hpp"

namespace updagent::launch {

// As many as a service may store descriptors one by one, and its lifecycle.
inline constexpr std::size_t kMaxRemembered = 160;
// More than kMaxStored would be refused anyway; one message can bring as many as this.
inline constexpr std::size_t kMaxRememberedDescriptors = kMaxDescriptorsPerMessage;

class NotifyMemory {
 public:
  // Takes what waits, a bounded number of messages. `closer` gets the descriptors of what is not
  // kept; call its start() afterwards.
  void read(int socket_fd, DescriptorCloser& closer);
  // In the order in which they came.
  const std::deque<NotifyDatagram>& messages() const { return messages_; }
  void forget(DescriptorCloser& closer);

 private:
  void remember(NotifyDatagram datagram, DescriptorCloser& closer);
  void forget_oldest(DescriptorCloser& closer);
  std::size_t descriptors() const;

  std::deque<NotifyDatagram> messages_;
};

}  // namespace updagent::launch
