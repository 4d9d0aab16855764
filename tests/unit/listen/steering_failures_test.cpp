// Who gets new connections when sockets and programs go away.
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <set>

#include "agent/listen/diag.hpp"
#include "support.hpp"

namespace updagent::listen {
namespace {

using namespace testing;
using base::UniqueFd;

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
  EXPECT_EQ(half_open(app.spec.address.port), 20);
  EXPECT_EQ(must(accept_queue(app.fd(0))).waiting, 0U);
  app.roles(1);
  must(shut_down(app.fd(0)));
  app.sockets.erase(0);
  for (std::size_t i = 0; i < clients.size(); ++i)
    send_text(clients[i].get(), std::to_string(1000 + i));
  serve_all(app, clients, 1);
  EXPECT_EQ(half_open(app.spec.address.port), 0);
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
  const auto found = must(strangers_at(app.spec.address, own));
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
    ready(std::to_string(detach_program(app.fd(1))));
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
  ASSERT_EQ(detach_program(app.fd(1)), 0);
  app.open(2);
  EXPECT_TRUE(must(app.listener.attached()));
  EXPECT_EQ(app.ask_many(200), (Counts{{0, 200}}));
}

}  // namespace
}  // namespace updagent::listen
