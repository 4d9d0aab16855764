#include "tests/handoff/load/reactor.hpp"

#include <algorithm>
#include <bit>
#include <ctime>

namespace load {
namespace {

constexpr std::size_t kEventsPerTurn = 512;
static_assert(sizeof(Token) == sizeof(std::uint64_t));

}  // namespace

std::int64_t now_us() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1000;
}

Reactor::Reactor() : epoll_(::epoll_create1(EPOLL_CLOEXEC)), raw_(kEventsPerTurn) {}

bool Reactor::watch(int fd, Token token) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  event.data.u64 = std::bit_cast<std::uint64_t>(token);
  return ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

void Reactor::wake(const Alarm& alarm, std::int64_t before) {
  if (before != 0) alarms_.erase({before, alarm.flow, alarm.slot});
  alarms_.insert(alarm);
}

std::vector<Reactor::Event>& Reactor::wait(std::int64_t until_us) {
  if (!alarms_.empty()) until_us = std::min(until_us, alarms_.begin()->at_us);
  const std::int64_t left_us = std::max<std::int64_t>(0, until_us - now_us());
  const timespec timeout{left_us / 1'000'000, left_us % 1'000'000 * 1000};
  const int count =
      ::epoll_pwait2(epoll_.get(), raw_.data(), static_cast<int>(raw_.size()), &timeout, nullptr);
  events_.clear();
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = raw_[static_cast<std::size_t>(i)];
    events_.push_back({std::bit_cast<Token>(event.data.u64), event.events});
  }
  return events_;
}

bool Reactor::take_alarm(std::int64_t now, Alarm& alarm) {
  if (alarms_.empty() || alarms_.begin()->at_us > now) return false;
  alarm = *alarms_.begin();
  alarms_.erase(alarms_.begin());
  return true;
}

}  // namespace load
