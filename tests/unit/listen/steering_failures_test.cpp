// Who gets new connections when sockets, programs and supervisors go away.
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>

#include "agent/base/pidfd.hpp"
#include "agent/listen/bpf_maps.hpp"
#include "agent/listen/diag.hpp"
#include "agent/listen/steer_program.hpp"
#include "support.hpp"

namespace updagent::listen {
namespace {

using namespace testing;
using base::UniqueFd;

// What most machines have; the program must do without it.
void no_migration_by_sysctl() {
  std::ifstream file("/proc/sys/net/ipv4/tcp_migrate_req");
  int value = -1;
  file >> value;
  ASSERT_EQ(value, 0) << "this machine migrates by sysctl: the test would prove nothing";
}

std::vector<UniqueFd> queue_up(const App& app, int connections) {
  std::vector<UniqueFd> clients;
  for (int i = 0; i < connections; ++i) {
    clients.push_back(connect_to(app.spec.address));
    send_text(clients.back().get(), std::to_string(1000 + i));
  }
  return clients;
}

// Every client's words arrive at `slot`, and its answer comes back.
void serve_all(App& app, const std::vector<UniqueFd>& clients, Slot slot) {
  std::set<std::string> heard;
  for (std::size_t i = 0; i < clients.size(); ++i) {
    const auto [from, connection] = app.accept_any();
    ASSERT_EQ(from, slot);
    const std::string text = receive_text(connection.get(), 4);
    EXPECT_TRUE(heard.insert(text).second) << text;
    send_text(connection.get(), text);
  }
  for (std::size_t i = 0; i < clients.size(); ++i)
    EXPECT_EQ(receive_text(clients[i].get(), 4), std::to_string(1000 + i));
}

class SteeringFailures : public SteeringTest {};

// --- fallback -----------------------------------------------------------------------------------

TEST_F(SteeringFailures, The_active_one_takes_over_for_a_candidate_that_is_gone) {
  App app;
  app.open(0);
  app.open(1);
  app.roles(0, 1, kWeightAll);
  must(shut_down(app.fd(1)));
  app.sockets.erase(1);
  EXPECT_EQ(app.ask_many(200), (Counts{{0, 200}}));
  EXPECT_EQ(app.count(0, &SteeringCounters::fallback), 200U);
  EXPECT_EQ(app.count(0, &SteeringCounters::selected), 0U);
}

TEST_F(SteeringFailures, The_standby_takes_over_for_an_active_one_that_is_gone_not_the_candidate) {
  App app;
  for (const Slot slot : {Slot{0}, Slot{1}, Slot{2}}) app.open(slot);
  app.roles(0, 1, 0, 2);
  must(shut_down(app.fd(0)));
  app.sockets.erase(0);
  EXPECT_EQ(app.ask_many(200), (Counts{{2, 200}}));
  EXPECT_EQ(app.count(2, &SteeringCounters::fallback), 200U);
}

TEST_F(SteeringFailures, Candidate_and_active_gone_leave_the_standby) {
  App app;
  for (const Slot slot : {Slot{0}, Slot{1}, Slot{2}}) app.open(slot);
  app.roles(0, 1, kWeightAll, 2);
  for (const Slot slot : {Slot{0}, Slot{1}}) {
    must(shut_down(app.fd(slot)));
    app.sockets.erase(slot);
  }
  EXPECT_EQ(app.ask_many(200), (Counts{{2, 200}}));
}

TEST_F(SteeringFailures, With_no_role_left_the_kernel_chooses_and_it_counts_as_critical) {
  App app;
  app.open(0);
  app.open(5);
  app.roles(0);
  must(shut_down(app.fd(0)));
  app.sockets.erase(0);
  EXPECT_EQ(app.ask_many(50), (Counts{{5, 50}}));
  EXPECT_EQ(app.count(0, &SteeringCounters::critical), 50U);
  app.roles(kNoSlot);
  EXPECT_EQ(app.ask(), 5);
  EXPECT_EQ(app.count(kNoSlot, &SteeringCounters::critical), 1U);
}

// --- migration ----------------------------------------------------------------------------------

TEST_F(SteeringFailures, What_waits_at_a_socket_that_is_shut_down_is_served_by_the_active_one) {
  no_migration_by_sysctl();
  App app;
  for (const Slot slot : {Slot{0}, Slot{1}, Slot{2}}) app.open(slot);
  app.roles(0);
  const auto clients = queue_up(app, 300);
  EXPECT_EQ(must(accept_queue(app.fd(0))).waiting, 300U);
  app.roles(1, 2, 5000, 2);
  must(shut_down(app.fd(0)));
  app.sockets.erase(0);
  EXPECT_EQ(app.count(1, &SteeringCounters::migrated), 300U);
  serve_all(app, clients, 1);
}

TEST_F(SteeringFailures, The_last_close_migrates_like_a_shutdown) {
  no_migration_by_sysctl();
  App app;
  app.open(0);
  app.open(1);
  app.roles(0);
  const auto clients = queue_up(app, 50);
  app.roles(1);
  app.sockets.erase(0);
  serve_all(app, clients, 1);
}

// Even when the policy still names it: its slot is empty by then.
TEST_F(SteeringFailures, Nothing_migrates_back_to_the_socket_that_goes) {
  no_migration_by_sysctl();
  App app;
  app.open(0);
  app.open(1);
  app.roles(0, kNoSlot, 0, 1);
  const auto clients = queue_up(app, 50);
  must(shut_down(app.fd(0)));
  app.sockets.erase(0);
  serve_all(app, clients, 1);
}

TEST_F(SteeringFailures, Half_open_handshakes_migrate_too) {
  no_migration_by_sysctl();
  App app;
  // the kernel keeps the handshake open until the client's first bytes
  const int seconds = 10;
  app.spec.options.push_back(
      {IPPROTO_TCP, TCP_DEFER_ACCEPT,
       std::string(reinterpret_cast<const char*>(&seconds), sizeof seconds)});
  app.open(0);
  app.open(1);
  app.roles(0);
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 20; ++i) clients.push_back(connect_to(app.spec.address));
  EXPECT_EQ(must(half_open(app.spec.address)).size(), 20U);
  EXPECT_EQ(must(accept_queue(app.fd(0))).waiting, 0U);
  app.roles(1);
  must(shut_down(app.fd(0)));
  app.sockets.erase(0);
  for (std::size_t i = 0; i < clients.size(); ++i)
    send_text(clients[i].get(), std::to_string(1000 + i));
  serve_all(app, clients, 1);
  EXPECT_EQ(must(half_open(app.spec.address)).size(), 0U);
}

// --- slots --------------------------------------------------------------------------------------

TEST_F(SteeringFailures, A_third_generation_uses_the_slot_of_the_first) {
  App app;
  app.open(0);
  app.open(1);
  app.roles(1);
  EXPECT_FALSE(app.listener.open(app.spec, 0));  // still taken
  must(shut_down(app.fd(0)));
  EXPECT_FALSE(must(app.listener.cookie(0)));
  app.open(0);
  app.roles(1, 0, 5000);
  Counts counts = app.ask_many(1000);
  const Bounds bounds = binomial_bounds(1000, 0.5);
  EXPECT_GE(counts[0], bounds.low);
  EXPECT_LE(counts[0], bounds.high);
}

TEST_F(SteeringFailures, A_refused_slot_leaves_no_socket_behind) {
  App app;
  app.open(0);
  app.roles(0);
  const auto second = app.listener.open(app.spec, 0);
  ASSERT_FALSE(second);
  EXPECT_EQ(must(holders_of(app.spec.address)).size(), 1U);
  EXPECT_EQ(app.ask_many(50), (Counts{{0, 50}}));
}

TEST_F(SteeringFailures, A_listener_without_sockets_can_be_founded_again) {
  App app;
  app.open(0);
  const auto first = must(app.listener.ids());
  app.sockets.clear();
  EXPECT_FALSE(must(app.listener.any_member()));
  app.open(3);
  EXPECT_TRUE(must(app.listener.attached()));
  EXPECT_NE(must(app.listener.ids()).program, first.program);
  app.roles(3);
  EXPECT_EQ(app.ask(), 3);
}

// --- others at the address ----------------------------------------------------------------------

TEST_F(SteeringFailures, A_stranger_of_our_own_uid_at_the_address_is_refused_and_named) {
  const UniqueFd stranger = must(open_socket(spec_for("tcp:127.0.0.1:0")));
  App app(must(address_of_socket(stranger.get())).text());
  const auto opened = app.listener.open(app.spec, 0);
  ASSERT_FALSE(opened);
  EXPECT_NE(opened.error().got().find("pid " + std::to_string(::getpid())), std::string::npos)
      << opened.error().line();
}

TEST_F(SteeringFailures, A_stranger_that_joins_later_gets_nothing_and_is_found) {
  App app;
  app.open(0);
  app.roles(0);
  const UniqueFd stranger = must(open_socket(app.spec));
  EXPECT_EQ(app.ask_many(200), (Counts{{0, 200}}));
  InodeSet own;
  own.add(must(inode_of(app.fd(0))));
  const auto found = strangers(must(holders_of(app.spec.address)), own);
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].inode, must(inode_of(stranger.get())));
  EXPECT_TRUE(in_group_of(found[0], app.spec.address));
}

// --- a hostile candidate ------------------------------------------------------------------------

int attach_own_choice(int fd) {
  sock_filter choose_me{BPF_RET | BPF_K, 0, 0, 1};
  const sock_fprog program{1, &choose_me};
  return ::setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program) == 0
             ? 0
             : errno;
}

int detach_ours(int fd) {
  const int nothing = 0;
  return ::setsockopt(fd, SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, &nothing, sizeof nothing) == 0
             ? 0
             : errno;
}

TEST_F(SteeringFailures, A_hostile_candidate_can_not_attach_a_program_of_its_own) {
  App app;
  app.open(0);
  app.open(1);
  app.roles(0, 1, 0);
  const Child candidate([&](const auto& ready) {
    static_cast<void>(!::setresuid(65534, 65534, 65534));
    ready(std::to_string(attach_own_choice(app.fd(1))) + " " +
          std::to_string(attach_own_choice(app.fd(0))));
  });
  EXPECT_EQ(candidate.report(), std::to_string(EPERM) + " " + std::to_string(EPERM));
  EXPECT_TRUE(must(app.listener.attached()));
  EXPECT_EQ(app.ask_many(200), (Counts{{0, 200}}));
}

TEST_F(SteeringFailures, A_program_that_was_detached_is_missed_and_attached_again) {
  App app;
  app.open(0);
  app.open(1);
  app.roles(0, 1, 0);
  const Child candidate([&](const auto& ready) {
    static_cast<void>(!::setresuid(65534, 65534, 65534));
    ready(std::to_string(detach_ours(app.fd(1))));
  });
  ASSERT_EQ(candidate.report(), "0");  // the kernel's gap: the lock does not cover it
  EXPECT_FALSE(must(app.listener.attached()));
  EXPECT_GT(app.ask_many(200)[1], 0U);  // the kernel's hash
  must(app.listener.reattach(app.spec));
  EXPECT_TRUE(must(app.listener.attached()));
  EXPECT_EQ(app.ask_many(200), (Counts{{0, 200}}));
  EXPECT_EQ(attach_own_choice(app.fd(1)), EPERM);
}

TEST_F(SteeringFailures, A_detached_program_comes_back_with_the_next_generation) {
  App app;
  app.open(0);
  app.open(1);
  app.roles(0);
  ASSERT_EQ(detach_ours(app.fd(1)), 0);
  app.open(2);
  EXPECT_TRUE(must(app.listener.attached()));
  EXPECT_EQ(app.ask_many(200), (Counts{{0, 200}}));
}

// --- succession ---------------------------------------------------------------------------------

struct Recorded {
  PolicyIds policy;
  SteeredIds listener;
  std::string address;
  int first_fd = -1;
  int second_fd = -1;
};

std::string to_text(const Recorded& recorded) {
  std::ostringstream out;
  out << recorded.policy.map << ' ' << recorded.policy.tag << ' ' << recorded.listener.program
      << ' ' << recorded.listener.slots << ' ' << recorded.listener.counters << ' '
      << recorded.address << ' ' << recorded.first_fd << ' ' << recorded.second_fd;
  return out.str();
}

Recorded from_text(const std::string& text) {
  Recorded recorded;
  std::istringstream in(text);
  in >> recorded.policy.map >> recorded.policy.tag >> recorded.listener.program >>
      recorded.listener.slots >> recorded.listener.counters >> recorded.address >>
      recorded.first_fd >> recorded.second_fd;
  return recorded;
}

// A supervisor with two generations and the candidate at 10 %.
void supervise(const std::function<void(const std::string&)>& ready) {
  static App app;  // NOLINT: lives until the process is killed
  app.open(0);
  app.open(1);
  app.roles(0, 1, 1000);
  Recorded recorded;
  recorded.policy = must(app.policy.ids());
  recorded.listener = must(app.listener.ids());
  recorded.address = app.spec.address.text();
  recorded.first_fd = app.fd(0);
  recorded.second_fd = app.fd(1);
  ready(to_text(recorded));
}

UniqueFd take_fd(pid_t pid, int number) {
  const UniqueFd process = base::open_pidfd(pid);
  return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), number, 0)));
}

TEST_F(SteeringFailures, Steering_outlives_the_supervisor_and_the_next_one_takes_it_back) {
  Child supervisor(supervise);
  const Recorded recorded = from_text(supervisor.report());
  std::map<Slot, UniqueFd> sockets;
  sockets[0] = take_fd(supervisor.pid(), recorded.first_fd);
  sockets[1] = take_fd(supervisor.pid(), recorded.second_fd);
  supervisor.kill();

  Policy policy = must(Policy::reopen(recorded.policy));
  SteeredListener listener = must(SteeredListener::reopen(policy, recorded.listener));
  App app(spec_for(recorded.address), std::move(policy), std::move(listener));
  app.sockets = std::move(sockets);
  EXPECT_TRUE(must(app.listener.attached()));
  EXPECT_EQ(app.policy.roles().weight, 1000);
  Counts counts = app.ask_many(2000);
  Bounds bounds = binomial_bounds(2000, 0.1);
  EXPECT_GE(counts[1], bounds.low);
  EXPECT_LE(counts[1], bounds.high);

  app.roles(0, 1, 5000);
  counts = app.ask_many(2000);
  bounds = binomial_bounds(2000, 0.5);
  EXPECT_GE(counts[1], bounds.low);
  EXPECT_LE(counts[1], bounds.high);
  app.open(2);
  app.roles(2);
  EXPECT_EQ(app.ask_many(500), (Counts{{2, 500}}));
}

// The worst case: nobody kept the maps. Whoever has the sockets can begin anew with them.
TEST_F(SteeringFailures, Steering_is_built_anew_when_supervisor_and_program_are_gone) {
  Child supervisor(supervise);
  const Recorded recorded = from_text(supervisor.report());
  std::map<Slot, UniqueFd> sockets;
  sockets[0] = take_fd(supervisor.pid(), recorded.first_fd);
  sockets[1] = take_fd(supervisor.pid(), recorded.second_fd);
  supervisor.kill();
  ASSERT_EQ(detach_ours(sockets[1].get()), 0);

  Policy policy = must(Policy::create());
  const auto gone = SteeredListener::reopen(policy, recorded.listener);
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code(), base::Code::not_found);
  SteeredListener listener = must(SteeredListener::create(policy));
  App app(spec_for(recorded.address), std::move(policy), std::move(listener));
  app.sockets = std::move(sockets);
  app.roles(0, 1, 0);
  must(app.listener.reattach(app.spec, {{0, app.fd(0)}, {1, app.fd(1)}}));
  EXPECT_EQ(app.ask_many(200), (Counts{{0, 200}}));
  app.roles(0, 1, kWeightAll);
  EXPECT_EQ(app.ask_many(200), (Counts{{1, 200}}));
}

TEST_F(SteeringFailures, Ids_that_name_something_else_are_refused_and_nothing_is_changed) {
  App app;
  app.open(0);
  App other;
  other.open(0);
  other.roles(7);
  const PolicyIds ids = must(app.policy.ids());
  EXPECT_TRUE(Policy::reopen(ids));

  PolicyIds of_other = must(other.policy.ids());
  of_other.tag = ids.tag;
  EXPECT_EQ(Policy::reopen(of_other).error().code(), base::Code::damaged);
  PolicyIds of_slots = ids;
  of_slots.map = must(app.listener.ids()).slots;
  EXPECT_EQ(Policy::reopen(of_slots).error().code(), base::Code::damaged);
  PolicyIds of_nothing = ids;
  of_nothing.map = 0x7FFFFFF0;
  EXPECT_EQ(Policy::reopen(of_nothing).error().code(), base::Code::not_found);

  EXPECT_EQ(SteeredListener::reopen(app.policy, must(other.listener.ids())).error().code(),
            base::Code::damaged);
  SteeredIds mixed = must(app.listener.ids());
  mixed.slots = must(other.listener.ids()).slots;
  EXPECT_EQ(SteeredListener::reopen(app.policy, mixed).error().code(), base::Code::damaged);
  EXPECT_EQ(other.policy.roles().active, 7);
}

// --- all of it under load -----------------------------------------------------------------------

// Asks until told to stop; each attempt must be answered with the byte that it sent.
class Load {
 public:
  explicit Load(const Address& address) : address_(address), thread_([this] { run(); }) {}
  ~Load() { stop(); }
  Load(const Load&) = delete;
  Load& operator=(const Load&) = delete;
  void stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }
  std::uint64_t answered() const { return answered_; }
  const std::string& failures() const { return failures_; }  // after stop()

 private:
  void run() {
    while (!stop_) {
      const std::string failure = attempt();
      if (failure.empty()) ++answered_;
      if (!failure.empty()) failures_ += failure + "; ";
    }
  }
  std::string attempt() const {
    const UniqueFd client = connect_to(address_);
    if (!client) return std::string("connect: ") + std::strerror(errno);
    char byte = 'x';
    if (::send(client.get(), &byte, 1, MSG_NOSIGNAL) != 1)
      return std::string("send: ") + std::strerror(errno);
    if (!wait_readable(client.get())) return "no answer";
    const ssize_t count = ::recv(client.get(), &byte, 1, 0);
    if (count < 0) return std::string("receive: ") + std::strerror(errno);
    return count == 1 && byte == 'x' ? "" : "end of file";
  }
  Address address_;
  std::atomic<bool> stop_ = false;
  std::atomic<std::uint64_t> answered_ = 0;
  std::string failures_;
  std::thread thread_;
};

// Answers what waits at these sockets now; connections whose byte is not there yet are kept.
class Server {
 public:
  void turn(const App& app, Slot only) {
    for (;;) {
      UniqueFd accepted(::accept4(app.fd(only), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (!accepted) break;
      open_.push_back(std::move(accepted));
    }
    std::erase_if(open_, [](const UniqueFd& fd) {
      char byte = 0;
      const ssize_t count = ::recv(fd.get(), &byte, 1, 0);
      if (count < 0 && errno == EAGAIN) return false;
      if (count == 1) send_text(fd.get(), std::string(1, byte));
      return true;
    });
  }

 private:
  std::vector<UniqueFd> open_;
};

TEST_F(SteeringFailures, Forty_handoffs_with_full_queues_lose_no_connection) {
  no_migration_by_sysctl();
  App app;
  app.open(0);
  app.roles(0);
  Load first(app.spec.address);
  Load second(app.spec.address);
  Load third(app.spec.address);
  Server server;
  Slot active = 0;
  for (int handoff = 0; handoff < 40; ++handoff) {
    const std::uint64_t before = first.answered();
    while (first.answered() < before + 5) server.turn(app, active);
    // the old one stalls: what comes now waits in its queue
    while (must(accept_queue(app.fd(active))).waiting < 2) std::this_thread::yield();
    const auto next = static_cast<Slot>((active + 1) % kMaxSlots);
    app.open(next);
    app.roles(next, kNoSlot, 0, active);
    std::this_thread::sleep_for(kSettleTime);  // it is part of what is promised
    must(shut_down(app.fd(active)));
    app.sockets.erase(active);
    active = next;
  }
  std::atomic<bool> stopped = false;
  std::thread stopper([&] {
    first.stop();
    second.stop();
    third.stop();
    stopped = true;
  });
  while (!stopped) server.turn(app, active);
  stopper.join();
  EXPECT_EQ(first.failures() + second.failures() + third.failures(), "");
  EXPECT_GT(first.answered() + second.answered() + third.answered(), 200U);
}

TEST_F(SteeringFailures, Detaching_and_attaching_again_under_load_loses_no_connection) {
  no_migration_by_sysctl();
  App app;
  app.open(0);
  app.roles(0);
  Load first(app.spec.address);
  Load second(app.spec.address);
  Server server;
  for (int i = 0; i < 20; ++i) {
    const std::uint64_t before = first.answered();
    while (first.answered() < before + 5) server.turn(app, 0);
    ASSERT_EQ(detach_ours(app.fd(0)), 0);
    must(app.listener.reattach(app.spec));
  }
  std::atomic<bool> stopped = false;
  std::thread stopper([&] {
    first.stop();
    second.stop();
    stopped = true;
  });
  while (!stopped) server.turn(app, 0);
  stopper.join();
  EXPECT_EQ(first.failures() + second.failures(), "");
}

}  // namespace
}  // namespace updagent::listen
