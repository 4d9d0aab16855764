#include "agent/health/question_loop.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/eventfd.h>

#include <algorithm>

#include "agent/health/probe_loop.hpp"
#include "tests/unit/health/probe_server.hpp"

namespace updagent::health {
namespace {

// Counts what is steered at the same time.
struct Counted {
  int now = 0;
  int most = 0;
  int all = 0;
  Steer steer() {
    return [this](int, const sockaddr*) -> base::Result<std::function<void()>> {
      most = std::max(most, ++now);
      ++all;
      return std::function<void()>([this] { --now; });
    };
  }
};

std::vector<release::Probe> probes_of(const std::string& url, std::size_t count) {
  std::vector<release::Probe> probes(count, http_probe(url));
  for (std::size_t i = 0; i < count; ++i) probes[i].name = std::to_string(i);
  return probes;
}

TEST(QuestionLoop, No_more_questions_are_steered_at_once_than_the_policy_has_room_for) {
  const ProbeServer server;
  Counted counted;
  ProbeContext context;
  context.steer = counted.steer();
  std::vector<release::Probe> probes = probes_of(server.url("/slow"), 12);
  for (release::Probe& probe : probes) {
    probe.timeout = base::Milliseconds(200);
    probe.failures = 2;
  }
  const Verdict verdict = prove_all(probes, context);
  EXPECT_FALSE(verdict.healthy);
  EXPECT_EQ(counted.most, kMaxSteered);
  EXPECT_EQ(counted.now, 0);
  EXPECT_GE(counted.all, 12);
}

TEST(QuestionLoop, All_of_many_have_their_turn) {
  const ProbeServer server;
  Counted counted;
  ProbeContext context;
  context.steer = counted.steer();
  const Verdict verdict = prove_all(probes_of(server.url("/ok"), 20), context);
  EXPECT_TRUE(verdict.healthy) << verdict.reason;
  EXPECT_LE(counted.most, kMaxSteered);
}

// Of the places for steered connections others have all; so often.
Steer busy_until(int& asked, int last) {
  return [&asked, last](int, const sockaddr*) -> base::Result<std::function<void()>> {
    if (++asked <= last) return base::Error(base::Code::busy, "all 8 places for probes are taken");
    return std::function<void()>([] {});
  };
}

TEST(QuestionLoop, A_place_that_others_have_is_waited_for) {
  const ProbeServer server;
  release::Probe tcp = quick_probe(release::ProbeType::tcp);
  tcp.address = "127.0.0.1:" + server.port();
  for (const release::Probe& probe : {http_probe(server.url("/ok")), tcp}) {
    int asked = 0;
    ProbeContext context;
    context.steer = busy_until(asked, 2);
    const Verdict verdict = prove_all({probe}, context);
    EXPECT_TRUE(verdict.healthy) << verdict.reason;
    EXPECT_EQ(verdict.results, 1U);
    EXPECT_EQ(asked, 3);
  }
}

TEST(QuestionLoop, But_no_longer_than_for_an_answer) {
  const ProbeServer server;
  int asked = 0;
  ProbeContext context;
  context.steer = busy_until(asked, 1'000'000);
  release::Probe probe = http_probe(server.url("/ok"));
  probe.timeout = base::Milliseconds(200);
  EXPECT_EQ(prove_all({probe}, context).reason,
            "probe 'p' failed: all 8 places for probes are taken");
  EXPECT_GT(asked, 1);
}

TEST(QuestionLoop, What_else_needs_serving_is_served_meanwhile) {
  const ProbeServer server;
  const base::UniqueFd event(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
  int served = 0;
  ProbeContext context;
  context.served.push_back({event.get(), [&] {
                              eventfd_t value = 0;
                              ::eventfd_read(event.get(), &value);
                              ++served;
                            }});
  release::Probe slow = http_probe(server.url("/slow"));
  slow.timeout = base::Milliseconds(500);
  EXPECT_FALSE(prove_all({slow}, context).healthy);
  EXPECT_EQ(served, 1);
}

// Reads what comes first on a connection; never answers.
class Listening {
 public:
  Listening() : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(::bind(socket_.get(), generic, length), 0);
    EXPECT_EQ(::listen(socket_.get(), 4), 0);
    EXPECT_EQ(::getsockname(socket_.get(), generic, &length), 0);
    port_ = ntohs(address.sin_port);
  }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_) + "/"; }
  std::string first_line() const {
    const base::UniqueFd client(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    std::string line;
    for (char c = 0; ::read(client.get(), &c, 1) == 1 && c != '\r';) line += c;
    return line;
  }

 private:
  base::UniqueFd socket_;
  std::uint16_t port_ = 0;
};

TEST(QuestionLoop, The_header_of_the_PROXY_protocol_goes_where_it_is_wanted) {
  for (const bool wanted : {true, false}) {
    const Listening server;
    ProbeContext context;
    context.wants_proxy_header = [wanted](const sockaddr* to) {
      EXPECT_EQ(to->sa_family, AF_INET);
      return wanted;
    };
    release::Probe probe = http_probe(server.url());
    probe.timeout = base::Milliseconds(1000);
    EXPECT_FALSE(prove_all({probe}, context).healthy);
    const std::string line = server.first_line();
    const std::string expected = wanted ? "PROXY TCP4 127.0.0.1 127.0.0.1 " : "GET / HTTP/1.1";
    EXPECT_TRUE(line.starts_with(expected)) << line;
  }
}

}  // namespace
}  // namespace updagent::health
