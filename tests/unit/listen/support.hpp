// Sockets, clients and counting for the tests of agent/listen/.
#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/unique_fd.hpp"
#include "agent/listen/listener.hpp"
#include "agent/listen/steering.hpp"

namespace updagent::listen::testing {

// A network namespace with nothing but a loopback interface that is up; the old one when the
// kernel does not allow it.
void enter_own_network();
bool in_own_network();
// On the loopback interface; false when this user may not.
bool add_v6_address(const std::string& address);

// The value, or a test failure with the error's line and an exception that ends the test.
template <class T>
T must(base::Result<T> result) {
  if (!result) throw std::runtime_error(result.error().line() + " " + result.error().hint());
  return std::move(*result);
}
inline void must(base::Status status) {
  if (!status) throw std::runtime_error(status.error().line() + " " + status.error().hint());
}

Address parse(const std::string& text);
ListenerSpec spec_for(const std::string& address);

// A stream connection, complete when the function returns (it may still wait in an accept queue).
// Empty with errno set when it failed. Closed without TIME_WAIT, so that ports don't run out.
base::UniqueFd connect_to(const Address& address,
                          const std::optional<Address>& from = std::nullopt);
void send_text(int fd, const std::string& text);
// What comes until `size` bytes are there or nothing more comes within seconds.
std::string receive_text(int fd, std::size_t size);
bool wait_readable(int fd);
// How many handshakes with this port (tcp, v4) the kernel has not seen the end of.
int half_open(std::uint16_t port);

inline double share_of(std::uint16_t weight) {
  return static_cast<double>(weight) / static_cast<double>(kWeightAll);
}

// The bounds that a count of `n` chances of `p` keeps, but for one run in 10^9.
struct Bounds {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
};
Bounds binomial_bounds(std::uint64_t n, double p);

using Counts = std::map<int, std::uint64_t>;

// One app with one steered listener and the sockets of its generations, as a supervisor has them.
class App {
 public:
  explicit App(const std::string& address = "tcp:127.0.0.1:0", bool v6only = true);
  App(ListenerSpec with, Policy of, SteeredListener steered)
      : policy(std::move(of)), listener(std::move(steered)), spec(std::move(with)) {}

  void open(Slot slot);
  void roles(Slot active, Slot candidate = kNoSlot, std::uint16_t weight = 0,
             Slot standby = kNoSlot, Affinity affinity = Affinity::connection);
  // The slot that a new connection goes to; it is accepted and closed. -1: refused, -2: nobody.
  int ask(const std::optional<Address>& from = std::nullopt);
  Counts ask_many(int connections);
  // Accepts from any generation; the slot and the connection.
  std::pair<int, base::UniqueFd> accept_any();
  int fd(Slot slot) const { return sockets.at(slot).get(); }
  std::uint64_t count(Slot slot, __u64 SteeringCounters::* what) const;

  Policy policy;
  SteeredListener listener;
  ListenerSpec spec;
  std::map<Slot, base::UniqueFd> sockets;
};

// Fails the test on a machine that migrates without the program's help.
void no_migration_by_sysctl();
// What a hostile holder of a listening socket can do; 0 or its errno.
int detach_program(int fd);

// A child process that runs `body`, reports with `ready` and then waits to be killed.
class Child {
 public:
  using Body = std::function<void(const std::function<void(const std::string&)>& ready)>;
  explicit Child(const Body& body);
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  pid_t pid() const { return pid_; }
  const std::string& report() const { return report_; }
  void kill();

 private:
  pid_t pid_ = -1;
  std::string report_;
};

// True, and the reason, when this machine can't steer: such tests are skipped.
const std::string& why_not_steered();

class SteeringTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!why_not_steered().empty()) GTEST_SKIP() << why_not_steered();
  }
};

inline constexpr std::uint64_t kSecondNs = 1'000'000'000;

}  // namespace updagent::listen::testing
