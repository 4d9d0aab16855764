// Handoffs and repairs while clients keep coming: none may notice.
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <thread>

#include "support.hpp"

namespace updagent::listen {
namespace {

using namespace testing;
using base::UniqueFd;

class HandoffLoadTest : public SteeringTest {};

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

TEST_F(HandoffLoadTest, Forty_handoffs_with_full_queues_lose_no_connection) {
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

TEST_F(HandoffLoadTest, Detaching_and_attaching_again_under_load_loses_no_connection) {
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
    ASSERT_EQ(detach_program(app.fd(0)), 0);
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
