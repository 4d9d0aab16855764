#include "agent/listen/diag.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "agent/listen/unix_path.hpp"
#include "support.hpp"
#include "tests/unit/base/test_directory.hpp"

namespace updagent::listen {
namespace {

using namespace testing;
using base::Milliseconds;
using base::UniqueFd;

Address peer_of(int fd) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  ::getpeername(fd, reinterpret_cast<sockaddr*>(&storage), &length);
  return must(from_sockaddr(storage, length, true));
}

// One socket of ours and one connection to it, waiting or accepted.
struct Pair {
  explicit Pair(const std::string& text, bool v6only = true, const std::string& host = "") {
    ListenerSpec spec = spec_for(text);
    spec.address.v6only = v6only;
    listener = must(open_socket(spec));
    address = must(address_of_socket(listener.get()));
    Address target = address;
    if (!host.empty()) target = parse("tcp:" + host + ":" + std::to_string(address.port));
    client = connect_to(target);
  }
  Acceptance ask() const {
    return must(acceptance(peer_of(client.get()), must(address_of_socket(client.get()))));
  }
  void accept() {
    if (wait_readable(listener.get()))
      server.reset(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }
  UniqueFd listener;
  Address address;
  UniqueFd client;
  UniqueFd server;
};

class AcceptanceTest : public ::testing::TestWithParam<std::tuple<std::string, bool, std::string>> {
};

TEST_P(AcceptanceTest, A_connection_waits_until_the_server_accepts_it) {
  const auto& [text, v6only, host] = GetParam();
  Pair pair(text, v6only, host);
  ASSERT_TRUE(pair.client);
  EXPECT_EQ(pair.ask(), Acceptance::waiting);
  send_text(pair.client.get(), "hello");  // data alone makes no difference
  EXPECT_EQ(pair.ask(), Acceptance::waiting);
  pair.accept();
  EXPECT_EQ(pair.ask(), Acceptance::accepted);
  receive_text(pair.server.get(), 5);
  pair.server.reset();
  EXPECT_EQ(pair.ask(), Acceptance::accepted);  // and closed: someone had it
}

INSTANTIATE_TEST_SUITE_P(Families, AcceptanceTest,
                         ::testing::Values(std::tuple{"tcp:127.0.0.1:0", true, ""},
                                           std::tuple{"tcp:[::1]:0", true, ""},
                                           std::tuple{"tcp:0.0.0.0:0", true, "127.0.0.1"},
                                           std::tuple{"tcp:[::]:0", false, "127.0.0.1"},
                                           std::tuple{"tcp:[::]:0", false, "[::1]"}));

TEST(DiagTest, A_client_that_hung_up_while_it_waited_was_not_accepted) {
  Pair pair("tcp:127.0.0.1:0");
  ASSERT_EQ(::shutdown(pair.client.get(), SHUT_WR), 0);
  EXPECT_EQ(pair.ask(), Acceptance::waiting);
}

TEST(DiagTest, A_connection_that_is_not_there_is_gone) {
  Pair pair("tcp:127.0.0.1:0");
  const Address client = must(address_of_socket(pair.client.get()));
  pair.client.reset();  // with a reset
  EXPECT_EQ(must(acceptance(pair.address, client)), Acceptance::gone);
  EXPECT_FALSE(acceptance(pair.address, parse("tcp:[::1]:1")));
}

TEST(DiagTest, Holders_of_a_port_are_found_through_wildcards_of_both_families) {
  ListenerSpec spec = spec_for("tcp:[::]:0");
  spec.address.v6only = false;
  const UniqueFd dual = must(open_socket(spec));
  const std::string port = std::to_string(must(address_of_socket(dual.get())).port);
  const std::uint32_t inode = must(inode_of(dual.get()));
  for (const std::string text : {"tcp:127.0.0.1:", "tcp:0.0.0.0:", "tcp:[::1]:", "tcp:[::]:"}) {
    const auto holders = must(holders_of(parse(text + port)));
    ASSERT_EQ(holders.size(), 1U) << text;
    EXPECT_EQ(holders[0].inode, inode);
    EXPECT_FALSE(holders[0].address.v6only);
    EXPECT_TRUE(holders[0].listening);
    ASSERT_EQ(holders[0].owners.size(), 1U);
    EXPECT_EQ(holders[0].owners[0].pid, ::getpid());
    EXPECT_EQ(holders[0].owners[0].command, "listen_test");
  }
  EXPECT_TRUE(must(holders_of(parse("udp:127.0.0.1:" + port))).empty());
}

TEST(DiagTest, Holders_of_a_udp_port_are_found_too) {
  const UniqueFd fd = must(open_socket(spec_for("udp:0.0.0.0:0")));
  const Address address = must(address_of_socket(fd.get()));
  const auto holders = must(holders_of(parse("udp:127.0.0.1:" + std::to_string(address.port))));
  ASSERT_EQ(holders.size(), 1U);
  EXPECT_EQ(holders[0].inode, must(inode_of(fd.get())));
}

TEST(DiagTest, A_listener_in_v6_alone_does_not_hold_the_port_in_v4) {
  const UniqueFd fd = must(open_socket(spec_for("tcp:[::]:0")));
  const std::string port = std::to_string(must(address_of_socket(fd.get())).port);
  EXPECT_TRUE(must(holders_of(parse("tcp:127.0.0.1:" + port))).empty());
}

TEST(DiagTest, All_processes_with_a_socket_are_named) {
  const UniqueFd fd = must(open_socket(spec_for("tcp:127.0.0.1:0")));
  const Child child([](const auto& ready) { ready("has a copy"); });
  const auto holders = must(holders_of(must(address_of_socket(fd.get()))));
  ASSERT_EQ(holders.size(), 1U);
  const std::string text = describe(holders);
  EXPECT_NE(text.find(std::to_string(::getpid())), std::string::npos) << text;
  EXPECT_NE(text.find(std::to_string(child.pid())), std::string::npos) << text;
}

// --- connections of a generation ----------------------------------------------------------------

TEST(DiagTest, Only_accepted_connections_of_the_given_sockets_are_a_generations) {
  Pair pair("tcp:127.0.0.1:0");
  InodeSet mine;
  must(mine.add_process(::getpid()));
  EXPECT_TRUE(must(connections_of(pair.address, mine)).empty());  // it waits
  pair.accept();
  mine.add(must(inode_of(pair.server.get())));
  const auto connections = must(connections_of(pair.address, mine));
  ASSERT_EQ(connections.size(), 1U);
  EXPECT_EQ(connections[0].inode, must(inode_of(pair.server.get())));
  EXPECT_EQ(connections[0].client, must(address_of_socket(pair.client.get())));
  InodeSet others;
  others.add(must(inode_of(pair.client.get())));
  EXPECT_TRUE(must(connections_of(pair.address, others)).empty());
}

// The descriptors of a whole process are the set, as for a real service.
TEST(DiagTest, A_process_brings_its_connections_along) {
  Pair pair("tcp:127.0.0.1:0");
  pair.accept();
  const Child service([](const auto& ready) { ready("has copies"); });
  InodeSet sockets;
  must(sockets.add_process(service.pid()));
  EXPECT_TRUE(sockets.has(must(inode_of(pair.server.get()))));
  EXPECT_EQ(must(connections_of(pair.address, sockets)).size(), 1U);
  InodeSet none;
  EXPECT_EQ(none.add_process(0x3FFFFFFF).error().code(), base::Code::not_found);
}

Connection only_connection(const Pair& pair) {
  InodeSet sockets;
  sockets.add(must(inode_of(pair.server.get())));
  const auto connections = must(connections_of(pair.address, sockets));
  if (connections.size() != 1) throw std::runtime_error("not one connection");
  return connections[0];
}

TEST(DiagTest, A_connection_is_quiet_once_the_server_had_the_last_word) {
  Pair pair("tcp:127.0.0.1:0");
  pair.accept();
  const int one = 1;  // the answer to the last byte must not wait for another
  ::setsockopt(pair.client.get(), IPPROTO_TCP, TCP_QUICKACK, &one, sizeof one);
  EXPECT_TRUE(is_quiet(only_connection(pair), Milliseconds(0)));
  EXPECT_FALSE(is_quiet(only_connection(pair), Milliseconds(60'000)));

  std::this_thread::sleep_for(Milliseconds(20));  // the kernel counts in ticks
  send_text(pair.client.get(), "question");
  EXPECT_EQ(only_connection(pair).receive_queue, 8U);
  EXPECT_FALSE(is_quiet(only_connection(pair), Milliseconds(0)));
  receive_text(pair.server.get(), 8);
  EXPECT_FALSE(is_quiet(only_connection(pair), Milliseconds(0)));  // the answer is due

  std::this_thread::sleep_for(Milliseconds(20));
  send_text(pair.server.get(), "answer");
  receive_text(pair.client.get(), 6);
  while (!is_quiet(only_connection(pair), Milliseconds(0))) std::this_thread::yield();
  EXPECT_TRUE(is_quiet(only_connection(pair), Milliseconds(0)));
}

// Who asks at once, as most do: the handshake is in the same tick of the kernel's clock.
TEST(DiagTest, A_connection_whose_first_question_is_not_answered_is_busy) {
  Pair pair("tcp:127.0.0.1:0");
  pair.accept();
  send_text(pair.client.get(), "question");
  receive_text(pair.server.get(), 8);
  EXPECT_FALSE(is_quiet(only_connection(pair), Milliseconds(0)));
}

TEST(DiagTest, What_the_client_does_not_take_keeps_a_connection_busy) {
  Pair pair("tcp:127.0.0.1:0");
  pair.accept();
  ::fcntl(pair.server.get(), F_SETFL, O_NONBLOCK);
  const std::string block(64 * 1024, 'x');
  while (::send(pair.server.get(), block.data(), block.size(), MSG_NOSIGNAL) > 0) {
  }
  EXPECT_GT(only_connection(pair).send_queue, 0U);
  EXPECT_FALSE(is_quiet(only_connection(pair), Milliseconds(0)));
}

TEST(DiagTest, Connections_of_a_dual_stack_listener_are_found_in_both_families) {
  for (const std::string host : {"127.0.0.1", "[::1]"}) {
    Pair pair("tcp:[::]:0", false, host);
    pair.accept();
    EXPECT_EQ(only_connection(pair).client.text(),
              must(address_of_socket(pair.client.get())).text());
  }
}

TEST(DiagTest, Unix_connections_are_those_to_the_generations_own_path) {
  const test::TestDirectory directory;
  const ListenerSpec spec = spec_for("unix:" + directory.path("a.sock"));
  const UniqueFd listener = must(open_path_socket(spec, 1));
  must(publish(spec, 1));
  const UniqueFd client = connect_to(spec.address);
  const UniqueFd server(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  InodeSet mine;
  must(mine.add_process(::getpid()));
  Address own = spec.address;
  own.path = generation_path(spec, 1);
  auto connections = must(connections_of(own, mine));
  ASSERT_EQ(connections.size(), 1U);
  EXPECT_EQ(connections[0].inode, must(inode_of(server.get())));
  EXPECT_TRUE(is_quiet(connections[0], Milliseconds(1000)));
  send_text(client.get(), "hello");
  connections = must(connections_of(own, mine));
  EXPECT_EQ(connections.at(0).receive_queue, 5U);
  EXPECT_FALSE(is_quiet(connections[0], Milliseconds(1000)));
}

// More than one datagram of answers.
TEST(DiagTest, A_long_list_comes_whole) {
  const UniqueFd listener = must(open_socket(spec_for("tcp:127.0.0.1:0")));
  const Address address = must(address_of_socket(listener.get()));
  constexpr std::size_t kConnections = 1500;
  std::vector<UniqueFd> held;
  InodeSet sockets;
  for (std::size_t i = 0; i < kConnections; ++i) {
    held.push_back(connect_to(address));
    ASSERT_TRUE(wait_readable(listener.get()));
    held.emplace_back(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }
  must(sockets.add_process(::getpid()));
  EXPECT_EQ(must(connections_of(address, sockets)).size(), kConnections);
}

}  // namespace
}  // namespace updagent::listen
