#include "agent/service/drain.hpp"

#include "agent/listen/diag.hpp"
#include "agent/listen/proc_sockets.hpp"

namespace updagent::service {
namespace {

base::Result<std::vector<listen::Connection>> connections(const ListenerSet& listeners,
                                                          const Generation& generation) {
  std::vector<listen::Connection> all;
  listen::InodeSet sockets;
  for (const pid_t pid : generation.processes())
    static_cast<void>(sockets.add_process(pid));  // one that has just ended has none
  for (const listen::Address& address : listeners.bound_addresses(generation)) {
    if (address.transport == listen::Transport::udp) continue;
    UPD_ASSIGN(std::vector<listen::Connection> some, listen::connections_of(address, sockets));
    for (listen::Connection& one : some) all.push_back(std::move(one));
  }
  return all;
}

}  // namespace

std::size_t busy_connections(const ListenerSet& listeners, const Generation& generation) {
  std::size_t busy = 0;
  const auto all = connections(listeners, generation);
  if (!all) return 0;  // a figure for the log, and there is none
  for (const listen::Connection& one : *all)
    if (!listen::is_quiet(one, kQuietFor)) ++busy;
  return busy;
}

Drain::Drain(Loop& loop, const ListenerSet& listeners, const Generation& generation,
             std::function<void(const base::Result<std::size_t>&)> done)
    : loop_(loop), listeners_(listeners), generation_(generation), done_(std::move(done)) {
  timer_ = loop_.after(base::Milliseconds(0), [this] { look(); });
}

base::Result<std::size_t> Drain::busy_connections() {
  UPD_ASSIGN(const std::vector<listen::Connection> all, connections(listeners_, generation_));
  const std::int64_t now_us = base::monotonic_now_us();
  std::map<std::uint32_t, std::int64_t> quiet;
  std::size_t busy = 0;
  for (const listen::Connection& one : all) {
    if (!listen::is_quiet(one, kQuietFor)) {
      ++busy;
      continue;
    }
    if (one.since_sent) continue;
    const auto before = quiet_since_us_.find(one.inode);
    const std::int64_t since = before == quiet_since_us_.end() ? now_us : before->second;
    quiet[one.inode] = since;
    if (now_us - since < kQuietFor.count() * 1000) ++busy;
  }
  quiet_since_us_ = std::move(quiet);
  return busy;
}

void Drain::look() {
  base::Result<std::size_t> busy = busy_connections();
  if (busy) *busy += listeners_.waiting(generation_);
  const std::int64_t left_us = generation_.drain_due_us() - base::monotonic_now_us();
  // where nobody can tell what is under way, something may be
  if ((!busy || *busy > 0) && left_us > 0 && generation_.life() == Life::ready) {
    const base::Milliseconds left((left_us + 999) / 1000);
    timer_ = loop_.after(std::min(kDrainLook, left), [this] { look(); });
    return;
  }
  timer_.reset();
  // moved out: the caller may end this object
  const auto done = std::move(done_);
  done(busy);
}

}  // namespace updagent::service
