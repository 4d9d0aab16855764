// The next supervisor takes over what the one before left in the kernel.
#include <sys/syscall.h>
#include <unistd.h>

#include <map>
#include <sstream>

#include "agent/base/pidfd.hpp"
#include "support.hpp"

namespace updagent::listen {
namespace {

using namespace testing;
using base::UniqueFd;

class SuccessionTest : public SteeringTest {};

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

TEST_F(SuccessionTest, Steering_outlives_the_supervisor_and_the_next_one_takes_it_back) {
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
TEST_F(SuccessionTest, Steering_is_built_anew_when_supervisor_and_program_are_gone) {
  Child supervisor(supervise);
  const Recorded recorded = from_text(supervisor.report());
  std::map<Slot, UniqueFd> sockets;
  sockets[0] = take_fd(supervisor.pid(), recorded.first_fd);
  sockets[1] = take_fd(supervisor.pid(), recorded.second_fd);
  supervisor.kill();
  ASSERT_EQ(detach_program(sockets[1].get()), 0);

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

TEST_F(SuccessionTest, Ids_that_name_something_else_are_refused_and_nothing_is_changed) {
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

}  // namespace
}  // namespace updagent::listen
