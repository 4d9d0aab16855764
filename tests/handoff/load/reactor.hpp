// epoll and timers, for sockets that come and go.
#pragma once

#include <sys/epoll.h>

#include <compare>
#include <cstdint>
#include <set>
#include <vector>

#include "agent/base/unique_fd.hpp"

namespace load {

std::int64_t now_us();  // CLOCK_MONOTONIC

// Whose event it is. The serial number changes with each socket of a slot, so that an event of the
// one before, which epoll had already reported, is not taken for the new one's.
struct Token {
  std::uint16_t flow = 0;
  std::uint16_t serial = 0;
  std::uint32_t slot = 0;
};

class Reactor {
 public:
  struct Event {
    Token token;
    std::uint32_t events = 0;
  };
  struct Alarm {
    std::int64_t at_us = 0;
    std::uint16_t flow = 0;
    std::uint32_t slot = 0;
    auto operator<=>(const Alarm&) const = default;
  };

  Reactor();
  // Edge-triggered, for everything. False when epoll can't (a plain file).
  bool watch(int fd, Token token);
  // `before` is when this slot had an alarm until now, 0: it had none.
  void wake(const Alarm& alarm, std::int64_t before);

  // Until something happens or `until_us` has come.
  std::vector<Event>& wait(std::int64_t until_us);
  bool take_alarm(std::int64_t now, Alarm& alarm);

 private:
  updagent::base::UniqueFd epoll_;
  std::set<Alarm> alarms_;  // one of a slot at most
  std::vector<epoll_event> raw_;
  std::vector<Event> events_;
};

}  // namespace load
