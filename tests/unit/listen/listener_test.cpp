#include "agent/listen/listener.hpp"

#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "agent/listen/diag.hpp"
#include "support.hpp"

namespace updagent::listen {
namespace {

using namespace testing;
using base::UniqueFd;

int option(int fd, int level, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  return ::getsockopt(fd, level, name, &value, &size) == 0 ? value : -1;
}

void set_option(int fd, int level, int name, int value) {
  ASSERT_EQ(::setsockopt(fd, level, name, &value, sizeof value), 0) << name;
}

TEST(ListenerTest, A_socket_is_born_as_the_spec_says) {
  for (const bool nonblocking : {false, true}) {
    ListenerSpec spec = spec_for("tcp:127.0.0.1:0");
    spec.nonblocking = nonblocking;
    spec.backlog = 17;
    const UniqueFd fd = must(open_socket(spec));
    EXPECT_EQ((::fcntl(fd.get(), F_GETFL) & O_NONBLOCK) != 0, nonblocking);
    EXPECT_EQ(::fcntl(fd.get(), F_GETFD), FD_CLOEXEC);
    EXPECT_EQ(option(fd.get(), SOL_SOCKET, SO_REUSEPORT), 1);
    EXPECT_EQ(option(fd.get(), SOL_SOCKET, SO_REUSEADDR), 1);
    EXPECT_EQ(option(fd.get(), SOL_SOCKET, SO_ACCEPTCONN), 1);
    EXPECT_EQ(must(accept_queue(fd.get())).limit, 17U);
  }
  const UniqueFd udp = must(open_socket(spec_for("udp:127.0.0.1:0")));
  EXPECT_EQ(option(udp.get(), SOL_SOCKET, SO_REUSEADDR), 0);
}

TEST(ListenerTest, Ipv6_alone_or_both_is_what_the_address_says_not_the_sysctl) {
  for (const bool v6only : {false, true}) {
    ListenerSpec spec = spec_for("tcp:[::]:0");
    spec.address.v6only = v6only;
    const UniqueFd fd = must(open_socket(spec));
    EXPECT_EQ(option(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY), v6only ? 1 : 0);
    EXPECT_EQ(must(address_of_socket(fd.get())).v6only, v6only);
    const std::uint16_t port = must(address_of_socket(fd.get())).port;
    const UniqueFd client = connect_to(parse("tcp:127.0.0.1:" + std::to_string(port)));
    EXPECT_EQ(static_cast<bool>(client), !v6only);
  }
}

TEST(ListenerTest, An_address_that_is_taken_is_refused_with_the_name_of_the_holder) {
  const Child holder([](const auto& ready) {
    static UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));  // without SO_REUSEPORT
    const SocketAddress raw = to_sockaddr(parse("tcp:0.0.0.0:0"));
    ::bind(fd.get(), raw.get(), raw.length);
    ::listen(fd.get(), 1);
    ready(std::to_string(must(address_of_socket(fd.get())).port));
  });
  // the wildcard of the other covers our specific address
  const auto opened = open_socket(spec_for("tcp:127.0.0.1:" + holder.report()));
  ASSERT_FALSE(opened);
  const std::string line = opened.error().line();
  EXPECT_NE(line.find("pid " + std::to_string(holder.pid())), std::string::npos) << line;
  EXPECT_NE(line.find("tcp:0.0.0.0:" + holder.report()), std::string::npos) << line;
}

TEST(ListenerTest, A_port_that_is_bound_and_not_listened_at_is_named_too) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
  const SocketAddress raw = to_sockaddr(parse("tcp:127.0.0.1:0"));
  ASSERT_EQ(::bind(fd.get(), raw.get(), raw.length), 0);
  const auto opened = open_socket(spec_for(must(address_of_socket(fd.get())).text()));
  ASSERT_FALSE(opened);
  const auto holders = must(holders_of(must(address_of_socket(fd.get()))));
  if (holders.empty()) GTEST_SKIP() << "this kernel (before 6.8) does not show such sockets";
  EXPECT_NE(opened.error().line().find("not listening"), std::string::npos)
      << opened.error().line();
}

TEST(ListenerTest, An_abstract_name_exists_once_and_its_holder_is_named) {
  const ListenerSpec spec = spec_for("unix:@listen-test-abstract");
  const UniqueFd fd = must(open_socket(spec));
  EXPECT_TRUE(connect_to(spec.address));
  EXPECT_EQ(must(unix_accept_queue(fd.get())).waiting, 1U);
  const auto second = open_socket(spec);
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().line().find("pid " + std::to_string(::getpid())), std::string::npos)
      << second.error().line();
}

TEST(ListenerTest, A_locked_socket_takes_no_program_from_anybody) {
  const UniqueFd fd = must(open_socket(spec_for("tcp:127.0.0.1:0")));
  must(lock_filter(fd.get()));
  sock_filter choose{BPF_RET | BPF_K, 0, 0, 0};
  const sock_fprog program{1, &choose};
  EXPECT_NE(::setsockopt(fd.get(), SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program),
            0);
  EXPECT_EQ(errno, EPERM);
  const int zero = 0;
  EXPECT_NE(::setsockopt(fd.get(), SOL_SOCKET, SO_LOCK_FILTER, &zero, sizeof zero), 0);
}

TEST(ListenerTest, The_accept_queue_counts_what_waits) {
  const UniqueFd fd = must(open_socket(spec_for("tcp:127.0.0.1:0")));
  const Address address = must(address_of_socket(fd.get()));
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 5; ++i) clients.push_back(connect_to(address));
  EXPECT_EQ(must(accept_queue(fd.get())).waiting, 5U);
  must(shut_down(fd.get()));
  EXPECT_FALSE(accept_queue(fd.get()));
}

// --- options ------------------------------------------------------------------------------------

TEST(SocketOptionsTest, A_fresh_socket_has_nothing_to_carry_over) {
  for (const std::string text : {"tcp:127.0.0.1:0", "tcp:[::1]:0", "udp:127.0.0.1:0"}) {
    const UniqueFd fd = must(open_socket(spec_for(text)));
    EXPECT_TRUE(must(capture_options(fd.get())).empty()) << text;
  }
}

TEST(SocketOptionsTest, What_a_server_has_set_is_on_the_next_socket_too) {
  const UniqueFd fd = must(open_socket(spec_for("tcp:[::1]:0")));
  set_option(fd.get(), SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(fd.get(), SOL_SOCKET, SO_RCVBUF, 100'000);
  set_option(fd.get(), IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(fd.get(), IPPROTO_TCP, TCP_DEFER_ACCEPT, 3);
  set_option(fd.get(), IPPROTO_TCP, TCP_KEEPIDLE, 33);
  set_option(fd.get(), IPPROTO_IPV6, IPV6_TCLASS, 0x20);
  const linger wait{1, 7};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &wait, sizeof wait);

  ListenerSpec spec = spec_for("tcp:[::1]:0");
  spec.options = must(capture_options(fd.get()));
  EXPECT_EQ(spec.options.size(), 7U);
  const UniqueFd next = must(open_socket(spec));
  EXPECT_EQ(must(capture_options(next.get())), spec.options);
  EXPECT_EQ(option(next.get(), SOL_SOCKET, SO_RCVBUF), 200'000);  // twice, as the kernel has it
  EXPECT_EQ(option(next.get(), IPPROTO_TCP, TCP_DEFER_ACCEPT),
            option(fd.get(), IPPROTO_TCP, TCP_DEFER_ACCEPT));
}

TEST(SocketOptionsTest, An_option_that_can_not_be_set_is_named) {
  ListenerSpec spec = spec_for("udp:127.0.0.1:0");
  const int one = 1;
  spec.options.push_back(
      {IPPROTO_TCP, TCP_NODELAY, std::string(reinterpret_cast<const char*>(&one), sizeof one)});
  const auto opened = open_socket(spec);
  ASSERT_FALSE(opened);
  EXPECT_NE(opened.error().line().find("TCP_NODELAY"), std::string::npos);
}

}  // namespace
}  // namespace updagent::listen
