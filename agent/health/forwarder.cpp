#include "agent/health/forwarder.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>

#include "agent/base/one_way.hpp"

namespace updagent::health {
namespace {

using base::Code;
using base::Error;
using base::OneWay;
using base::Result;
using base::Status;
using base::UniqueFd;

constexpr int kEventsAtOnce = 64;  // the next call has the others
constexpr int kDoorBacklog = 128;
// Until a place in the policy is looked for again: probes give theirs back within milliseconds.
constexpr std::int64_t kRetryUs = 20'000;

enum class Part : std::uint64_t { timer, door, client, server };
constexpr std::uint64_t kPartBits = 2;

std::uint64_t key(Part part, std::uint64_t id) {
  return id << kPartBits | static_cast<std::uint64_t>(part);
}

// The other side is told that this was no orderly end.
void reset_at_close(int fd) {
  const linger now{1, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

Result<UniqueFd> open_door() {
  UniqueFd door(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_in here{};
  here.sin_family = AF_INET;
  here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (!door || ::bind(door.get(), reinterpret_cast<const sockaddr*>(&here), sizeof here) != 0 ||
      ::listen(door.get(), kDoorBacklog) != 0)
    return base::system_error(errno, "cannot listen on 127.0.0.1 for the release's commands");
  return door;
}

}  // namespace

struct Forwarder::State {
  // One connection of a command with its counterpart.
  struct Link {
    std::size_t door = 0;
    UniqueFd client;
    UniqueFd server;  // none: it waits for its turn
    bool connected = false;
    std::function<void()> unsteer;  // while the kernel has not chosen yet
    std::int64_t patience_end_us = 0;
    OneWay up;
    OneWay down;
    bool up_ended = false;    // and the end was handed on
    bool down_ended = false;  // likewise
    std::uint32_t client_events = 0;
    std::uint32_t server_events = 0;
  };
  struct Door {
    UniqueFd listening;
    ForwardTarget target;
  };

  Steer steer;
  base::Milliseconds patience{0};
  UniqueFd epoll;
  UniqueFd timer;
  std::vector<Door> doors;
  std::map<std::uint64_t, Link> links;  // by the order of their coming
  std::uint64_t next_id = 1;
  std::int64_t retry_us = 0;  // not before then
  bool doors_open = true;
  std::string problem;

  ~State() {
    for (auto& [id, link] : links) release_entry(link);
  }

  Status add(int fd, std::uint64_t data) const;
  void interest(int fd, std::uint64_t data, std::uint32_t& before, std::uint32_t wanted) const;
  void open_doors(bool open);
  void accept_from(std::size_t index);
  void handle(Part part, std::uint64_t id, std::uint32_t events);
  void start_waiting();
  Status connect(std::uint64_t id, Link& link);
  Status connected(Link& link) const;
  Status relay(Link& link, Part part, std::uint32_t events) const;
  void settle(std::uint64_t id, Link& link);
  void give_up(std::uint64_t id, const Error& error);
  void expire(std::int64_t now_us);
  void arm_timer();
  static void release_entry(Link& link) {
    if (link.unsteer) std::exchange(link.unsteer, nullptr)();
  }
};

Forwarder::Forwarder(std::unique_ptr<State> state) : state_(std::move(state)) {}
Forwarder::Forwarder(Forwarder&&) noexcept = default;
Forwarder& Forwarder::operator=(Forwarder&&) noexcept = default;
Forwarder::~Forwarder() = default;

Result<Forwarder> Forwarder::open(std::span<const ForwardTarget> targets, Steer steer,
                                  base::Milliseconds connect_patience) {
  auto state = std::make_unique<State>();
  state->steer = std::move(steer);
  state->patience = connect_patience;
  state->epoll.reset(::epoll_create1(EPOLL_CLOEXEC));
  state->timer.reset(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!state->epoll || !state->timer)
    return base::system_error(errno, "cannot wait for connections of the release's commands");
  UPD_TRY(state->add(state->timer.get(), key(Part::timer, 0)));
  for (const ForwardTarget& target : targets) {
    UPD_ASSIGN(UniqueFd listening, open_door());
    UPD_TRY(state->add(listening.get(), key(Part::door, state->doors.size())));
    state->doors.push_back({std::move(listening), target});
  }
  return Forwarder(std::move(state));
}

std::string Forwarder::address(std::size_t index) const {
  sockaddr_in here{};
  socklen_t length = sizeof here;
  ::getsockname(state_->doors.at(index).listening.get(), reinterpret_cast<sockaddr*>(&here),
                &length);
  return "127.0.0.1:" + std::to_string(ntohs(here.sin_port));
}

int Forwarder::event_fd() const {
  return state_->epoll.get();
}

Served Forwarder::served() {
  return {event_fd(), [this] { on_event(); }};
}

const std::string& Forwarder::problem() const {
  return state_->problem;
}

void Forwarder::on_event() {
  std::array<epoll_event, kEventsAtOnce> events{};
  const int count = ::epoll_wait(state_->epoll.get(), events.data(), kEventsAtOnce, 0);
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = events[static_cast<std::size_t>(i)];
    const auto part = static_cast<Part>(event.data.u64 & ((1U << kPartBits) - 1));
    state_->handle(part, event.data.u64 >> kPartBits, event.events);
  }
  state_->expire(base::monotonic_now_us());
  state_->start_waiting();
  state_->open_doors(state_->links.size() < kMaxForwarded);
  state_->arm_timer();
}

Status Forwarder::State::add(int fd, std::uint64_t data) const {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = data;
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event) == 0) return base::ok();
  return base::system_error(errno, "cannot wait for connections of the release's commands");
}

// What nobody waits for is taken out: EPOLLHUP would be told for ever.
void Forwarder::State::interest(int fd, std::uint64_t data, std::uint32_t& before,
                                std::uint32_t wanted) const {
  if (before == wanted) return;
  epoll_event event{};
  event.events = wanted;
  event.data.u64 = data;
  const int change = wanted == 0 ? EPOLL_CTL_DEL : before == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
  ::epoll_ctl(epoll.get(), change, fd, &event);
  before = wanted;
}

void Forwarder::State::open_doors(bool open) {
  if (open == doors_open) return;
  for (std::size_t i = 0; i < doors.size(); ++i) {
    std::uint32_t before = doors_open ? static_cast<std::uint32_t>(EPOLLIN) : 0U;
    interest(doors[i].listening.get(), key(Part::door, i), before,
             open ? static_cast<std::uint32_t>(EPOLLIN) : 0U);
  }
  doors_open = open;
}

void Forwarder::State::accept_from(std::size_t index) {
  while (links.size() < kMaxForwarded) {
    UniqueFd client(
        ::accept4(doors[index].listening.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!client) return;
    Link& link = links[next_id++];
    link.door = index;
    link.client = std::move(client);
    link.patience_end_us = base::monotonic_now_us() + patience.count() * 1000;
  }
}

void Forwarder::State::handle(Part part, std::uint64_t id, std::uint32_t events) {
  if (part == Part::door) return accept_from(id);
  if (part == Part::timer) {
    std::uint64_t times = 0;  // read so that it is quiet; what is due is looked at anyway
    static_cast<void>(!::read(timer.get(), &times, sizeof times));
    return;
  }
  const auto found = links.find(id);
  if (found == links.end()) return;  // ended by an event before this one
  Link& link = found->second;
  const Status done = link.connected ? relay(link, part, events) : connected(link);
  if (!done) return give_up(id, done.error());
  settle(id, link);
}

// In the order of their coming, as many as may be under way.
void Forwarder::State::start_waiting() {
  const auto under_way = [](const auto& item) {
    return item.second.server && !item.second.connected;
  };
  auto busy = static_cast<std::size_t>(std::count_if(links.begin(), links.end(), under_way));
  if (base::monotonic_now_us() < retry_us) return;
  for (auto next = links.begin(); next != links.end() && busy < kMaxSteeredAtOnce;) {
    const auto current = next++;
    Link& link = current->second;
    if (link.server) continue;
    const Status begun = connect(current->first, link);
    if (!begun && begun.error().code() == Code::busy) {
      retry_us = base::monotonic_now_us() + kRetryUs;
      return;
    }
    if (!begun) {
      give_up(current->first, begun.error());
    } else if (!link.connected) {
      ++busy;
    }
  }
}

Status Forwarder::State::connect(std::uint64_t id, Link& link) {
  const ForwardTarget& target = doors[link.door].target;
  const auto* address = reinterpret_cast<const sockaddr*>(&target.address);
  UniqueFd server(::socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!server) return base::system_error(errno, "cannot make a socket");
  if (steer && address->sa_family != AF_UNIX) {
    UPD_ASSIGN(link.unsteer, steer(server.get(), address));
  }
  const int code = ::connect(server.get(), address, target.length) == 0 ? 0 : errno;
  if (code != 0 && code != EINPROGRESS) {
    release_entry(link);
    // a unix socket whose queue is full
    if (code == EAGAIN) return Error(Code::busy, "the queue of '" + target.name + "' is full");
    return base::system_error(code, "cannot connect to listener '" + target.name + "'");
  }
  link.server = std::move(server);
  interest(link.server.get(), key(Part::server, id), link.server_events, EPOLLOUT);
  return base::ok();
}

// The kernel chose with the first packet and has kept to it since: the entry is free for others.
Status Forwarder::State::connected(Link& link) const {
  release_entry(link);
  int code = 0;
  socklen_t length = sizeof code;
  if (::getsockopt(link.server.get(), SOL_SOCKET, SO_ERROR, &code, &length) != 0) code = errno;
  const ForwardTarget& target = doors[link.door].target;
  if (code != 0)
    return base::system_error(code, "cannot connect to listener '" + target.name + "'");
  link.connected = true;
  if (!target.proxy_header) return base::ok();
  UPD_ASSIGN(const std::string header, proxy_header_of(link.server.get()));
  link.up.put(header);
  return base::ok();
}

Status Forwarder::State::relay(Link& link, Part part, std::uint32_t events) const {
  const bool has_input = (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0;
  if (has_input && part == Part::client && link.up.wants_input())
    UPD_TRY(link.up.take(link.client.get()));
  if (has_input && part == Part::server && link.down.wants_input())
    UPD_TRY(link.down.take(link.server.get()));
  if (link.up.wants_output()) UPD_TRY(link.up.give(link.server.get()));
  if (link.down.wants_output()) UPD_TRY(link.down.give(link.client.get()));
  return base::ok();
}

// Hands ends on, and says what there is to wait for now.
void Forwarder::State::settle(std::uint64_t id, Link& link) {
  if (link.up.over() && !std::exchange(link.up_ended, true)) ::shutdown(link.server.get(), SHUT_WR);
  if (link.down.over() && !std::exchange(link.down_ended, true))
    ::shutdown(link.client.get(), SHUT_WR);
  if (link.up_ended && link.down_ended) {
    links.erase(id);
    return;
  }
  const auto wanted = [](const OneWay& from, const OneWay& to) {
    return (from.wants_input() ? std::uint32_t{EPOLLIN} : 0U) |
           (to.wants_output() ? std::uint32_t{EPOLLOUT} : 0U);
  };
  interest(link.client.get(), key(Part::client, id), link.client_events,
           wanted(link.up, link.down));
  interest(link.server.get(), key(Part::server, id), link.server_events,
           wanted(link.down, link.up));
}

void Forwarder::State::give_up(std::uint64_t id, const Error& error) {
  problem = error.line();
  Link& link = links.at(id);
  release_entry(link);
  reset_at_close(link.client.get());
  if (link.server) reset_at_close(link.server.get());
  links.erase(id);
}

void Forwarder::State::expire(std::int64_t now_us) {
  for (auto next = links.begin(); next != links.end();) {
    const auto current = next++;
    const Link& link = current->second;
    if (link.connected || now_us < link.patience_end_us) continue;
    give_up(current->first,
            Error(Code::timed_out, "no connection to listener '" + doors[link.door].target.name +
                                       "' within " + base::format_duration(patience)));
  }
}

void Forwarder::State::arm_timer() {
  std::int64_t next_us = 0;
  const std::int64_t now_us = base::monotonic_now_us();
  for (const auto& [id, link] : links) {
    if (link.connected) continue;
    std::int64_t due_us = link.patience_end_us;
    if (!link.server && retry_us > now_us) due_us = std::min(due_us, retry_us);
    next_us = next_us == 0 ? due_us : std::min(next_us, due_us);
  }
  itimerspec when{};  // all zero: off
  when.it_value.tv_sec = next_us / 1'000'000;
  when.it_value.tv_nsec = next_us % 1'000'000 * 1000;
  ::timerfd_settime(timer.get(), TFD_TIMER_ABSTIME, &when, nullptr);
}

}  // namespace updagent::health
