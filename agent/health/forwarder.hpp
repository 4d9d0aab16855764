// Doors on 127.0.0.1 for commands that ask the candidate: whatever connects to one is connected to
// a production address, and steered to the generation that is meant. A command needs to know
// nothing of steering, and nobody else gets a connection there by it.
//
// One epoll descriptor for all doors: a poll loop serves it beside what it waits for anyway.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "agent/base/clock.hpp"
#include "agent/base/error.hpp"
#include "agent/health/probes.hpp"

namespace updagent::health {

// At a time over all doors; further ones wait in the kernel's queue. Two buffers each.
inline constexpr std::size_t kMaxForwarded = 128;
// The policy has eight entries for probes of all kinds: commands must not take them all.
inline constexpr std::size_t kMaxSteeredAtOnce = 4;

struct ForwardTarget {
  std::string name;  // the listener's
  sockaddr_storage address{};
  socklen_t length = 0;
  bool proxy_header = false;  // the connection begins with the header of the PROXY protocol
};

class Forwarder {
 public:
  // A door for each target. `connect_patience`: from a connection's coming until its target took
  // it; past that it is reset.
  static base::Result<Forwarder> open(
      std::span<const ForwardTarget> targets, Steer steer,
      base::Milliseconds connect_patience = base::Milliseconds(10'000));
  Forwarder(Forwarder&&) noexcept;
  Forwarder& operator=(Forwarder&&) noexcept;
  ~Forwarder();  // ends all its connections

  // "127.0.0.1:40123" of the target with that place in the list.
  std::string address(std::size_t index) const;

  int event_fd() const;  // readable when on_event() has something to do
  void on_event();       // never blocks but for the question to the supervisor
  Served served();       // the two for a loop; the forwarder must outlive it and stay in its place

  // Why the last connection that did not come through did not; "" when all did.
  const std::string& problem() const;

 private:
  struct State;
  explicit Forwarder(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// The header (version 1, "PROXY TCP4 127.0.0.1 127.0.0.1 40123 8080\r\n") of a connected socket:
// what a proxy would say of a client that comes from our end. HAProxy's proxy-protocol.txt, 2.1.
base::Result<std::string> proxy_header_of(int fd);

}  // namespace updagent::health
