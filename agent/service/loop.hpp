// The one event loop of a supervisor: descriptors and points in time, each with what is to be done.
// epoll_wait(2) with the next timer as its timeout; no wake-up without an event.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <unordered_map>

#include "agent/base/clock.hpp"
#include "agent/base/error.hpp"
#include "agent/base/unique_fd.hpp"

namespace updagent::service {

class Loop;

// A registration that ends with the object. Empty ones do nothing.
class Watch {
 public:
  Watch() = default;
  Watch(Watch&& other) noexcept;
  Watch& operator=(Watch&& other) noexcept;
  ~Watch();
  void reset();
  explicit operator bool() const { return loop_ != nullptr; }

 private:
  friend class Loop;
  Watch(Loop* loop, std::uint64_t id) : loop_(loop), id_(id) {}
  Loop* loop_ = nullptr;
  std::uint64_t id_ = 0;
};

class Loop {
 public:
  using Action = std::function<void()>;

  static base::Result<std::unique_ptr<Loop>> create();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;
  Loop(Loop&&) = delete;
  Loop& operator=(Loop&&) = delete;
  ~Loop();

  // `events` as for epoll_ctl(2). The descriptor stays the caller's and must outlive the Watch.
  base::Result<Watch> watch(int fd, std::uint32_t events, Action action);
  // Once; the Watch is empty of effect afterwards. Never earlier than asked, also when 0.
  Watch after(base::Milliseconds span, Action action);

  // Until stop(); actions of one round run in the order of their descriptors' readiness.
  base::Status run();
  void stop() { stopping_ = true; }

 private:
  friend class Watch;
  struct Entry {
    int fd = -1;  // -1: a timer
    std::int64_t due_us = 0;
    Action action;
  };
  explicit Loop(base::UniqueFd epoll) : epoll_(std::move(epoll)) {}
  void forget(std::uint64_t id);
  int timeout_ms() const;
  void run_timers();

  base::UniqueFd epoll_;
  std::uint64_t next_id_ = 1;
  std::unordered_map<std::uint64_t, std::shared_ptr<Entry>> entries_;
  std::set<std::pair<std::int64_t, std::uint64_t>> timers_;  // by due time
  bool stopping_ = false;
};

}  // namespace updagent::service
