// A server may have registered its socket with epoll before bind(2) (Netty does). Such a
// registration belongs to the socket that inject replaces and would be lost: the server would never
// hear of a connection. It is made again on the listener, as the server itself would have made it.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>

#include "agent/base/unique_fd.hpp"

namespace updagent::launch {

// One is normal; a socket may be in the epoll of every worker.
inline constexpr std::size_t kMaxEpollRegistrations = 16;
// In a process's table, and lines of one fdinfo: what is past them is not looked at.
inline constexpr int kMaxEpollScan = 65'536;

struct EpollRegistration {
  int epoll_number = -1;  // in the thread's table
  std::uint32_t events = 0;
  std::uint64_t data = 0;
  base::UniqueFd epoll;  // our copy; empty if we could not get one
};
struct EpollRegistrations {
  std::array<EpollRegistration, kMaxEpollRegistrations> list;
  std::size_t count = 0;
};

// Of descriptor `fd` of `thread`, whose socket has this inode; `process` is the thread's pidfd.
void find_epolls(pid_t thread, const base::UniqueFd& process, int fd, ino_t inode,
                 EpollRegistrations& out);

// Registers `listener` under the number `fd`. A registration is known by the open file and the
// number, so the number must be free in our own table, or `listener`'s own. False with errno set.
bool register_as(const EpollRegistration& registration, int fd, int listener);

}  // namespace updagent::launch
