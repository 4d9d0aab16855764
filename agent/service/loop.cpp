#include "agent/service/loop.hpp"

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <utility>

namespace updagent::service {
namespace {

// One round: what is ready beyond that is ready in the next one, and nobody starves.
constexpr int kEventsPerRound = 64;

}  // namespace

Watch::Watch(Watch&& other) noexcept
    : loop_(std::exchange(other.loop_, nullptr)), id_(std::exchange(other.id_, 0)) {}

Watch& Watch::operator=(Watch&& other) noexcept {
  if (this == &other) return *this;
  reset();
  loop_ = std::exchange(other.loop_, nullptr);
  id_ = std::exchange(other.id_, 0);
  return *this;
}

Watch::~Watch() {
  reset();
}

void Watch::reset() {
  if (loop_ != nullptr) std::exchange(loop_, nullptr)->forget(id_);
}

base::Result<std::unique_ptr<Loop>> Loop::create() {
  base::UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return base::system_error(errno, "cannot make an epoll instance");
  return std::unique_ptr<Loop>(new Loop(std::move(epoll)));
}

Loop::~Loop() = default;

base::Result<Watch> Loop::watch(int fd, std::uint32_t events, Action action) {
  const std::uint64_t id = next_id_++;
  epoll_event event{};
  event.events = events;
  event.data.u64 = id;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    return base::system_error(errno, "cannot watch a descriptor");
  entries_.emplace(id, std::make_shared<Entry>(Entry{fd, 0, std::move(action)}));
  return Watch(this, id);
}

Watch Loop::after(base::Milliseconds span, Action action) {
  const std::uint64_t id = next_id_++;
  const std::int64_t due_us =
      base::monotonic_now_us() + std::max<std::int64_t>(span.count(), 0) * 1000;
  entries_.emplace(id, std::make_shared<Entry>(Entry{-1, due_us, std::move(action)}));
  timers_.emplace(due_us, id);
  return Watch(this, id);
}

void Loop::forget(std::uint64_t id) {
  const auto found = entries_.find(id);
  if (found == entries_.end()) return;
  if (found->second->fd >= 0) {
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, found->second->fd, nullptr);
  } else {
    timers_.erase({found->second->due_us, id});
  }
  entries_.erase(found);
}

int Loop::timeout_ms() const {
  if (timers_.empty()) return -1;
  const std::int64_t left_us = timers_.begin()->first - base::monotonic_now_us();
  // rounded up: a timer that is due in half a millisecond must not make the loop spin
  return static_cast<int>(std::clamp<std::int64_t>((left_us + 999) / 1000, 0, INT_MAX));
}

// Only those that were due when it began: one that sets itself again at once doesn't hold up the
// descriptors.
void Loop::run_timers() {
  const std::int64_t now_us = base::monotonic_now_us();
  const std::uint64_t last_id = next_id_;
  while (!timers_.empty() && timers_.begin()->first <= now_us) {
    const std::uint64_t id = timers_.begin()->second;
    if (id >= last_id) break;
    const std::shared_ptr<Entry> entry = entries_.at(id);
    forget(id);
    entry->action();
  }
}

base::Status Loop::run() {
  std::array<epoll_event, kEventsPerRound> ready;
  while (!stopping_) {
    const int count = ::epoll_wait(epoll_.get(), ready.data(), kEventsPerRound, timeout_ms());
    if (count < 0 && errno != EINTR) return base::system_error(errno, "cannot wait for events");
    for (int i = 0; i < count && !stopping_; ++i) {
      // gone when an action of this round has ended it
      const auto found = entries_.find(ready[static_cast<std::size_t>(i)].data.u64);
      if (found == entries_.end()) continue;
      const std::shared_ptr<Entry> entry = found->second;  // it may end its own watch
      entry->action();
    }
    run_timers();
  }
  return base::ok();
}

}  // namespace updagent::service
