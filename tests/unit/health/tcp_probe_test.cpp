#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>

#include "tests/unit/health/probe_server.hpp"

namespace updagent::health {
namespace {

release::Probe tcp_probe(const std::string& address) {
  release::Probe probe = quick_probe(release::ProbeType::tcp);
  probe.address = address;
  return probe;
}

// A socket that listens on loopback and accepts nothing.
class Listener {
 public:
  explicit Listener(int backlog) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    address_.sin_family = AF_INET;
    address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::bind(socket_.get(), generic(), sizeof address_), 0);
    EXPECT_EQ(::listen(socket_.get(), backlog), 0);
    socklen_t length = sizeof address_;
    EXPECT_EQ(::getsockname(socket_.get(), generic(), &length), 0);
  }
  std::string port() const { return std::to_string(ntohs(address_.sin_port)); }
  base::UniqueFd connect() {
    base::UniqueFd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    EXPECT_TRUE(::connect(client.get(), generic(), sizeof address_) == 0 || errno == EINPROGRESS);
    return client;
  }

 private:
  sockaddr* generic() { return reinterpret_cast<sockaddr*>(&address_); }
  sockaddr_in address_{};
  base::UniqueFd socket_;
};

TEST(TcpProbe, A_connection_is_healthy_although_nobody_answers) {
  const Listener listener(16);
  EXPECT_TRUE(prove_all({tcp_probe("127.0.0.1:" + listener.port())}).healthy);
}

TEST(TcpProbe, A_name_is_resolved) {
  const Listener listener(16);
  const Verdict verdict = prove_all({tcp_probe("localhost:" + listener.port())});
  EXPECT_TRUE(verdict.healthy) << verdict.reason;
}

TEST(TcpProbe, A_port_where_nobody_listens_refuses) {
  EXPECT_EQ(prove_all({tcp_probe("127.0.0.1:1")}).reason, "probe 'p' failed: connection refused");
}

TEST(TcpProbe, A_full_queue_that_answers_nothing_runs_into_the_time_limit) {
  Listener listener(0);
  std::vector<base::UniqueFd> waiting;  // more than the queue holds
  for (int i = 0; i < 8; ++i) waiting.push_back(listener.connect());
  release::Probe probe = tcp_probe("127.0.0.1:" + listener.port());
  probe.timeout = base::Milliseconds(200);
  EXPECT_EQ(prove_all({probe}).reason, "probe 'p' failed: no connection within 200ms");
}

TEST(TcpProbe, An_address_that_is_not_host_and_port_is_refused) {
  for (const char* address : {"127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", ":80",
                              "user@127.0.0.1:80", "127.0.0.1/x:80", ""}) {
    const std::vector<release::Probe> probes = {tcp_probe(address)};
    const auto verdict = prove(probes, {}, nullptr);
    ASSERT_FALSE(verdict.has_value()) << address;
    EXPECT_EQ(verdict.error().code(), base::Code::manifest_invalid);
    EXPECT_EQ(verdict.error().expected(), "HOST:PORT or [V6]:PORT");
    EXPECT_EQ(verdict.error().got(), "'" + std::string(address) + "'");
  }
}

}  // namespace
}  // namespace updagent::health
