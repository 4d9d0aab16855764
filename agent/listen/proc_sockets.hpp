// Sockets by process and processes by socket, through /proc/PID/fd.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "agent/base/error.hpp"

namespace updagent::listen {

struct ProcessSocket {
  int fd = -1;  // the number in that process
  std::uint32_t inode = 0;
};
// Every socket that a process holds. Code::not_found when it is gone, io_error when it is not ours
// to look at.
base::Result<std::vector<ProcessSocket>> sockets_of(pid_t pid);

struct SocketOwner {
  pid_t pid = 0;
  std::string command;  // /proc/PID/comm
};
// Who holds these sockets, by inode; at most kMaxOwners of each. Looks through all processes that
// can be seen, for at most kOwnerSearch.
std::map<std::uint32_t, std::vector<SocketOwner>> owners_of(std::vector<std::uint32_t> inodes);

// A sorted set of inodes: small, as there may be hundreds of thousands.
class InodeSet {
 public:
  base::Status add_process(pid_t pid);
  void add(std::uint32_t inode);
  bool has(std::uint32_t inode) const;
  bool empty() const { return sorted_.empty(); }
  std::size_t size() const { return sorted_.size(); }

 private:
  void sort();
  std::vector<std::uint32_t> sorted_;
};

}  // namespace updagent::listen
