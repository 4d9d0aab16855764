// The socket options that a server sets before bind(2) are set on a socket which inject throws
// away. The table says which of them are set again on the listener that it gets instead, and which
// must not be: those on which the sockets of all generations must agree.
#pragma once

#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <span>

namespace updagent::launch {

enum class OptionRule : std::uint8_t {
  copy,
  copy_buffer,  // the kernel reports twice what was set
  group,        // stays as the group of sockets has it; named when the server had set it
  group_quiet,  // the same, but nearly every server sets it and nothing is lost
};

struct OptionRow {
  const char* name;
  int level;
  int option;
  socklen_t size;  // at most kMaxOptionBytes
  OptionRule rule;
  const char* reason;  // of a group's: why
};
inline constexpr socklen_t kMaxOptionBytes = 16;

std::span<const OptionRow> option_table();
inline constexpr std::size_t kMaxOptionRows = 80;  // room in an answer; the table is checked

enum class OptionOutcome : std::uint8_t {
  untouched,  // the server had not set it, or this socket has no such option
  copied,
  refused,  // the kernel did not take it on the listener (a privilege that we don't have)
  kept,     // the server had set it, and its rule is OptionRule::group
};
using OptionOutcomes = std::array<OptionOutcome, kMaxOptionRows>;

// What a server has set on its socket: what differs from a fresh socket of the same kind. Takes two
// steps, so that nothing is set before it is known that the socket was the right one.
class OptionCopy {
 public:
  // False with errno set: no fresh socket to compare with.
  bool read(int servers_socket);
  void apply(int listener, OptionOutcomes& outcomes) const;

 private:
  struct Value {
    std::array<std::uint8_t, kMaxOptionBytes> bytes;
    socklen_t size;  // 0: not set by the server
  };
  std::array<Value, kMaxOptionRows> values_{};
};

}  // namespace updagent::launch
