// Which listener of the app a bind(2) of an unmodified server means. Pure.
//
// The rule: a server never gets a socket that more can reach than it asked for. A listener that is
// a part of what was asked for fits (the server wants 0.0.0.0:80, the manifest says 127.0.0.1:80);
// one that is more doesn't (the server wants 127.0.0.1:80, the manifest 0.0.0.0:80: what it meant
// for itself alone would be open to the network). One exception: a wildcard of one family fits a
// dual-stack wildcard, as both say "every address" and the manifest has named the other family.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace updagent::launch {

struct InjectListener {
  std::string name;
  // What the service asks for. Of a unix path that is the public name, whatever the path is at
  // which this generation's socket was bound.
  sockaddr_storage address{};
  socklen_t address_length = 0;
  int type = SOCK_STREAM;
  bool v6only = false;
  int socket_fd = -1;  // bound, of this generation; borrowed, stays open while it is used here
};

// What is known about the socket and the address of one bind(2).
struct AskedBind {
  sockaddr_storage address{};
  socklen_t address_length = 0;
  int domain = 0;
  int type = 0;
  int protocol = 0;
  bool v6only = false;
  std::string canonical_path;  // of a unix path: absolute, its folder without links; "" not known
};

enum class Fit {
  none,
  ours,      // `listener` is the one
  divided,   // several listeners are parts of it: one socket can't stand for them
  too_open,  // a listener is there, but it is open to more than was asked for
};

struct BindMatch {
  Fit fit = Fit::none;
  std::size_t listener = 0;  // index; of `too_open` the one that was too open
};

// `canonical_paths` are those of the listeners, "" where there is none; as many as listeners.
BindMatch match_bind(const AskedBind& asked, std::span<const InjectListener> listeners,
                     std::span<const std::string> canonical_paths);

// "tcp:0.0.0.0:8080", "udp:[::1]:53", "unix:/run/shop.sock", "unix:@shop"; "" for families that no
// listener can have.
std::string bind_text(const sockaddr_storage& address, socklen_t length, int type);

}  // namespace updagent::launch
