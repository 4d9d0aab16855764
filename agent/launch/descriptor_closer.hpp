// Closes what a service has sent to us. close(2) of such a descriptor can wait for ever: a FUSE
// file asks its server, which can be the service itself, and a TCP socket with SO_LINGER waits for
// its peer. So asides close them, one after the other; only a pipe is closed on the spot.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "agent/base/unique_fd.hpp"
#include "agent/launch/aside.hpp"

namespace updagent::launch {

class DescriptorCloser {
 public:
  // The end of an aside is an event of `epoll_fd` with this tag; call on_event() then.
  DescriptorCloser(int epoll_fd, std::uint64_t tag) : epoll_fd_(epoll_fd), tag_(tag) {}
  DescriptorCloser(const DescriptorCloser&) = delete;
  DescriptorCloser& operator=(const DescriptorCloser&) = delete;
  ~DescriptorCloser();  // waits a moment for what is under way, and leaves it to itself then

  void take(base::UniqueFd descriptor);
  // Starts to close what was taken. Call it once after a batch.
  void start();
  void on_event();

  // Taken and not closed yet. Stays up when a close hangs: whoever feeds us must stop then.
  std::size_t waiting() const { return waiting_.size() + closing_; }

 private:
  void forget_aside();

  int epoll_fd_;
  std::uint64_t tag_;
  std::vector<base::UniqueFd> waiting_;
  std::size_t closing_ = 0;
  std::optional<Aside> aside_;
};

// The kind tells whether the kernel answers poll(2) of it by itself. Neither is asked by fstat(2):
// a FUSE file's server would have to answer.
bool is_pipe(int fd);
bool is_plain_socket(int fd);  // AF_UNIX, AF_INET or AF_INET6

}  // namespace updagent::launch
