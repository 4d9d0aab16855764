// Start here for agent/listen/: the listening sockets of an app and who gets what comes in.
//
// Every generation of a service has fresh sockets of its own for the same addresses, so that two
// generations share no flags, no epoll registration and no accept queue. In the kernel a program of
// ours chooses between them (steering.hpp); where that can't be had, one socket serves all
// (mechanism.hpp). This folder starts no process, waits for nothing but the kernel's answer to a
// question, and never closes or changes a socket that it was not given.
//
//   address.hpp         what a listener's address is
//   listener.hpp        opening the socket of one generation (tcp, udp, unix abstract)
//   unix_path.hpp       the same for a unix path: a path per generation, one public name
//   steering.hpp        who gets new connections: policy, slots, counters, succession
//   mechanism.hpp       whether this machine can steer
//   diag.hpp            what the kernel knows: ports taken, queues, connections
//   adopt.hpp           listeners of a service that updagent did not start
//   socket_options.hpp  what a server set on its socket
#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/error.hpp"
#include "agent/base/unique_fd.hpp"
#include "agent/listen/address.hpp"
#include "agent/listen/proc_sockets.hpp"
#include "agent/listen/socket_options.hpp"

namespace updagent::listen {

// Larger than what servers ask for (nginx 511, Go 4,096): the queue has to hold what comes in while
// a service is restarted. The kernel takes net.core.somaxconn where that is less.
inline constexpr int kDefaultBacklog = 4096;

// The same for all generations.
struct ListenerSpec {
  std::string name;
  Address address;
  int backlog = kDefaultBacklog;
  bool nonblocking = false;  // O_NONBLOCK at birth: a flag of the socket, not of its holder
  std::vector<SocketOption> options;  // what else the server sets, or what an adopted socket had
  mode_t mode = 0666;                 // of a unix path: connecting needs the right to write
  std::optional<uid_t> owner;
  std::optional<gid_t> group;
};

// What lets a socket stand beside others at its address; before bind(2).
base::Status set_address_flags(int fd, const Address& address);

// Between socket(2) and bind(2): the place where the first socket of an address gets its program.
using BeforeBind = std::function<base::Status(int fd)>;

// A fresh socket, bound and listening, O_CLOEXEC. tcp and udp join the sockets that are already at
// the address (SO_REUSEPORT); an abstract unix name exists once and is given to all generations.
// When the address is taken the refusal names who has it.
base::Result<base::UniqueFd> open_socket(const ListenerSpec& spec,
                                         const BeforeBind& before_bind = {});

// Refuses, as open_socket() does, an address where others than `own` listen, tcp or udp. bind(2)
// lets a socket stand beside one of the same uid that has SO_REUSEPORT, too, unless the first of
// them has a program: what is not steered asks before it opens.
base::Status check_free(const ListenerSpec& spec, const InodeSet& own);

// From now on nobody who holds the socket can attach a program to its group. For ever; connections
// of this socket have the lock too.
base::Status lock_filter(int fd);

// What waits to be accepted, and how many may wait. Counts what its client has given up, too.
struct AcceptQueue {
  unsigned waiting = 0;
  unsigned limit = 0;
};
base::Result<AcceptQueue> accept_queue(int fd);  // tcp

// st_ino of the socket, as sock_diag and /proc/PID/fd know it.
base::Result<std::uint32_t> inode_of(int fd);

}  // namespace updagent::listen
