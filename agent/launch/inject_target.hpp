// What inject does with the thread that waits in bind(2): looking at its socket and address, and
// putting the listener in the socket's place. Both run where they may hang (aside.hpp): the answers
// are plain memory that two processes share.
#pragma once

#include <linux/limits.h>
#include <sys/socket.h>
#include <sys/types.h>

#include <array>
#include <cstdint>

#include "agent/base/unique_fd.hpp"
#include "agent/launch/inject_options.hpp"

namespace updagent::launch {

// A bind(2) in progress: its id, and its arguments as the kernel reported them.
struct BindRequest {
  std::uint64_t id = 0;
  pid_t thread = 0;
  int fd = -1;  // number in the thread's own table
  std::uint64_t address = 0;
  std::uint64_t length = 0;
};

enum class Progress : std::uint32_t {
  pending,  // not finished: what ran it was killed
  done,
  invalid,  // bind(2) will fail by itself (no socket, bad address): not for us
  gone,     // nobody waits for an answer any more: killed, or interrupted by a signal
  failed,
};

// Where it failed, for the message.
enum class TargetStep : std::uint32_t {
  none,
  reach_process,
  read_address,
  copy_socket,
  compare_options,
  set_flags,
  replace,
  answer,
};

struct Outcome {
  Progress progress = Progress::pending;
  TargetStep step = TargetStep::none;
  int errno_value = 0;
};

struct SocketFacts {
  int domain = 0;
  int type = 0;
  int protocol = 0;
  int v6only = 0;
  int device = 0;             // interface index, 0: any
  std::uint64_t network = 0;  // cookie of its network namespace, 0 where the kernel doesn't tell
  std::uint64_t cookie = 0;   // of the socket: unique, whatever its descriptors
};

struct Look {
  Outcome outcome;
  sockaddr_storage address;
  socklen_t address_length;
  SocketFacts socket;
  std::array<char, PATH_MAX> canonical_path;  // of a unix path, "" not known
};

struct Replacement {
  Outcome outcome;
  OptionOutcomes options;
  bool signals_lost;           // O_ASYNC was set: who gets the signal belongs to the old socket
  std::uint32_t epolls_moved;  // registrations made before bind, made again on the listener
  std::uint32_t epolls_lost;   // and those that could not be: the server will not hear of them
};

// Reads only. `look` is zeroed by the caller.
void look_at_bind(const BindRequest& request, Look& look);
// A registration with epoll is known by its number too, so what we open ourselves must not take the
// number of the service's descriptor. The same descriptor, or a duplicate above `number`.
base::UniqueFd clear_of(base::UniqueFd opened, int number);
// False with errno set: not a socket.
bool read_socket_facts(int fd, SocketFacts& facts);

// Copies options and flags to the listener, puts it in the socket's place, makes epoll
// registrations again; the answer is the caller's. Nothing is changed before it is certain that the
// request still waits.
void replace_socket(int notify_fd, int listener_fd, const BindRequest& request,
                    Replacement& replacement);

// --- the kernel's notify descriptor -------------------------------------------------------------
bool request_is_valid(int notify_fd, std::uint64_t id);
// What an errno of these calls means for the request.
Outcome stopped(TargetStep step, int errno_value);
// The two answers. False with errno set; ENOENT: nobody waits for it.
bool answer_done(int notify_fd, std::uint64_t id);
bool answer_continue(int notify_fd, std::uint64_t id);

}  // namespace updagent::launch
