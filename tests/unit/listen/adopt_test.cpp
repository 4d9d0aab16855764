#include "agent/listen/adopt.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support.hpp"

namespace updagent::listen {
namespace {

using namespace testing;
using base::UniqueFd;

// A service of the uid that nobody started through us: an ordinary socket, no SO_REUSEPORT.
class Service {
 public:
  explicit Service(uid_t uid, const std::string& text = "tcp:127.0.0.1:0", int protocol = 0,
                   int sockets = 1, bool reuseport = false)
      : child_([=](const auto& ready) {
          if (uid != 0) static_cast<void>(!::setresuid(uid, uid, uid));
          Address address = parse(text);
          for (int i = 0; i < sockets; ++i) {
            static std::vector<UniqueFd> kept;
            const bool stream = address.transport != Transport::udp;
            kept.emplace_back(
                ::socket(address.family, stream ? SOCK_STREAM : SOCK_DGRAM, protocol));
            const int fd = kept.back().get();
            if (fd < 0) return ready("no such protocol");
            const int one = 1;
            if (reuseport) ::setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
            if (stream && address.is_inet())
              ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            const SocketAddress raw = to_sockaddr(address);
            if (::bind(fd, raw.get(), raw.length) != 0) return ready("cannot bind");
            if (stream && ::listen(fd, 321) != 0) return ready("cannot listen");
            if (address.is_inet()) address = must(address_of_socket(fd));
          }
          ready(address.text());
        }) {}
  const std::string& report() const { return child_.report(); }
  ListenerSpec spec() const { return spec_for(child_.report()); }
  pid_t pid() const { return child_.pid(); }

 private:
  Child child_;
};

base::Result<RunningListener> taken_from(pid_t pid, const ListenerSpec& spec) {
  auto running = must(running_listeners(pid));
  return take_running(running, spec);
}

Adopted adopt_from(const Service& service) {
  const ListenerSpec spec = service.spec();
  return must(adopt(must(taken_from(service.pid(), spec)), spec));
}

class AdoptTest : public SteeringTest, public ::testing::WithParamInterface<uid_t> {};

// The running server never notices: its socket is generation 0, a new one joins, traffic is split,
// and what waits at the old one in the end is moved over.
TEST_P(AdoptTest, A_listener_without_reuseport_is_steered_split_and_drained) {
  const Service service(GetParam());
  Adopted adopted = adopt_from(service);
  ASSERT_EQ(adopted.mechanism, Mechanism::steered) << adopted.why_shared;
  EXPECT_EQ(adopted.spec.backlog, 321);
  EXPECT_FALSE(adopted.spec.nonblocking);
  ASSERT_EQ(adopted.spec.options.size(), 1U);
  EXPECT_EQ(adopted.spec.options[0].name, TCP_NODELAY);

  Policy policy = must(Policy::create());
  SteeredListener listener = must(SteeredListener::create(policy));
  App app(adopted.spec, std::move(policy), std::move(listener));
  app.roles(0);
  must(app.listener.reattach(app.spec, {{0, adopted.fd.get()}}));
  app.sockets[0] = std::move(adopted.fd);
  EXPECT_EQ(app.ask_many(100), (Counts{{0, 100}}));
  app.open(1);
  EXPECT_EQ(app.ask_many(100), (Counts{{0, 100}}));
  app.roles(0, 1, 2500);
  Counts counts = app.ask_many(1000);
  const Bounds bounds = binomial_bounds(1000, 0.25);
  EXPECT_GE(counts[1], bounds.low);
  EXPECT_LE(counts[1], bounds.high);

  app.roles(0);
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 100; ++i) clients.push_back(connect_to(app.spec.address));
  app.roles(1);
  must(shut_down(app.fd(0)));
  app.sockets.erase(0);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(app.accept_any().first, 1);
  EXPECT_EQ(app.count(1, &SteeringCounters::migrated), 100U);
}

INSTANTIATE_TEST_SUITE_P(Uids, AdoptTest, ::testing::Values(uid_t{0}, uid_t{65534}),
                         [](const auto& uid) { return "uid_" + std::to_string(uid.param); });

TEST(AdoptListingTest, Only_what_listens_is_found_and_each_socket_once) {
  const Child process([](const auto& ready) {
    static const UniqueFd tcp = must(open_socket(spec_for("tcp:127.0.0.1:0")));
    static const UniqueFd copy(::dup(tcp.get()));
    static const UniqueFd udp = must(open_socket(spec_for("udp:127.0.0.1:0")));
    static const UniqueFd name = must(open_socket(spec_for("unix:@listen-adopt-test")));
    static const UniqueFd client = connect_to(must(address_of_socket(tcp.get())));
    static const UniqueFd loose(::socket(AF_INET, SOCK_DGRAM, 0));
    ready(must(address_of_socket(tcp.get())).text());
  });
  const auto running = must(running_listeners(process.pid()));
  std::vector<std::string> found;
  for (const RunningListener& one : running) found.push_back(one.address.text());
  ASSERT_EQ(found.size(), 3U);
  EXPECT_EQ(found[0], process.report());
  EXPECT_TRUE(found[1].starts_with("udp:127.0.0.1:"));
  EXPECT_EQ(found[2], "unix:@listen-adopt-test");
}

TEST(AdoptListingTest, A_process_that_listens_elsewhere_is_refused_with_what_there_is) {
  const Service service(0);
  const auto taken = taken_from(service.pid(), spec_for("tcp:127.0.0.1:9"));
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().code(), base::Code::not_found);
  EXPECT_EQ(taken.error().got(), service.report());
  EXPECT_EQ(running_listeners(0x3FFFFFFF).error().code(), base::Code::not_found);
}

TEST(AdoptListingTest, A_wildcard_of_the_server_serves_a_specific_listener) {
  const Service service(0, "tcp:0.0.0.0:0");
  const std::string port = std::to_string(service.spec().address.port);
  const auto taken = taken_from(service.pid(), spec_for("tcp:127.0.0.1:" + port));
  EXPECT_EQ(must(taken_from(service.pid(), service.spec())).address, service.spec().address);
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->address, service.spec().address);
}

TEST(AdoptListingTest, Several_sockets_at_one_address_are_named_with_what_to_do) {
  const Service service(0, "tcp:127.0.0.1:0", 0, 3, true);
  const auto taken = taken_from(service.pid(), service.spec());
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().got(), "3");
  EXPECT_NE(taken.error().hint().find("reuseport"), std::string::npos);
}

TEST(AdoptListingTest, An_mptcp_listener_is_shared_and_named_and_left_as_it_was) {
  const Service service(0, "tcp:127.0.0.1:0", IPPROTO_MPTCP);
  if (service.report() == "no such protocol") GTEST_SKIP() << "no MPTCP here";
  const Adopted adopted = adopt_from(service);
  EXPECT_EQ(adopted.mechanism, Mechanism::shared);
  EXPECT_NE(adopted.why_shared.find("MPTCP"), std::string::npos) << adopted.why_shared;
  int reuseport = -1;
  socklen_t size = sizeof reuseport;
  ::getsockopt(adopted.fd.get(), SOL_SOCKET, SO_REUSEPORT, &reuseport, &size);
  EXPECT_EQ(reuseport, 0);
}

TEST(AdoptListingTest, A_listener_of_another_network_namespace_is_shared_and_named) {
  if (!in_own_network()) GTEST_SKIP() << "no network namespace may be made here";
  const Child process([](const auto& ready) {
    enter_own_network();
    static const UniqueFd tcp = must(open_socket(spec_for("tcp:127.0.0.1:0")));
    ready(must(address_of_socket(tcp.get())).text());
  });
  const ListenerSpec spec = spec_for(process.report());
  const Adopted adopted = must(adopt(must(taken_from(process.pid(), spec)), spec));
  EXPECT_EQ(adopted.mechanism, Mechanism::shared);
  EXPECT_NE(adopted.why_shared.find("network namespace"), std::string::npos);
}

TEST(AdoptListingTest, A_socket_that_no_other_can_join_is_left_as_it_was) {
  // a second socket at the port, which does not allow others
  const Service service(0, "tcp:127.0.0.1:0", 0, 1, false);
  const ListenerSpec spec = service.spec();
  UniqueFd other(::socket(AF_INET, SOCK_STREAM, 0));
  RunningListener running = must(taken_from(service.pid(), service.spec()));
  // our own uid is what a fresh socket has: as another one it can't join
  const Child stranger_uid([&](const auto& ready) {
    static_cast<void>(!::setresuid(65534, 65534, 65534));
    const Adopted adopted = must(adopt(std::move(running), spec));
    int reuseport = -1;
    socklen_t size = sizeof reuseport;
    ::getsockopt(adopted.fd.get(), SOL_SOCKET, SO_REUSEPORT, &reuseport, &size);
    ready(std::string(mechanism_name(adopted.mechanism)) + " " + std::to_string(reuseport) + " " +
          adopted.why_shared);
  });
  EXPECT_TRUE(stranger_uid.report().starts_with("shared 0 cannot make the running socket"))
      << stranger_uid.report();
}

// Its connections keep the flags that the listener had when they came.
TEST(AdoptListingTest, A_listener_with_connections_can_be_joined_if_it_set_reuseaddr) {
  if (!why_not_steered().empty()) GTEST_SKIP() << why_not_steered();
  for (const int reuseaddr : {1, 0}) {
    const UniqueFd server(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ::setsockopt(server.get(), SOL_SOCKET, SO_REUSEADDR, &reuseaddr, sizeof reuseaddr);
    const SocketAddress any = to_sockaddr(spec_for("tcp:127.0.0.1:0").address);
    ASSERT_EQ(::bind(server.get(), any.get(), any.length), 0);
    ASSERT_EQ(::listen(server.get(), 16), 0);
    const ListenerSpec spec = spec_for(must(address_of_socket(server.get())).text());
    const UniqueFd client = connect_to(spec.address);
    const UniqueFd accepted(::accept(server.get(), nullptr, nullptr));
    ASSERT_TRUE(accepted);
    const Adopted adopted = must(adopt(must(taken_from(::getpid(), spec)), spec));
    EXPECT_EQ(adopted.mechanism, reuseaddr == 1 ? Mechanism::steered : Mechanism::shared);
    if (reuseaddr == 0) {
      EXPECT_NE(adopted.why_shared.find("SO_REUSEADDR"), std::string::npos) << adopted.why_shared;
    }
  }
}

TEST(AdoptListingTest, A_udp_listener_can_be_joined) {
  if (!why_not_steered().empty()) GTEST_SKIP() << why_not_steered();
  const Service service(65534, "udp:127.0.0.1:0");
  Adopted adopted = adopt_from(service);
  ASSERT_EQ(adopted.mechanism, Mechanism::steered) << adopted.why_shared;
  Policy policy = must(Policy::create());
  SteeredListener listener = must(SteeredListener::create(policy));
  App app(adopted.spec, std::move(policy), std::move(listener));
  app.roles(0);
  must(app.listener.reattach(app.spec, {{0, adopted.fd.get()}}));
  app.sockets[0] = std::move(adopted.fd);
  app.open(1);
  for (const Slot slot : {Slot{0}, Slot{1}}) {
    app.roles(slot);
    const UniqueFd client(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const SocketAddress raw = to_sockaddr(app.spec.address);
    ::sendto(client.get(), "x", 1, 0, raw.get(), raw.length);
    EXPECT_TRUE(wait_readable(app.fd(slot))) << static_cast<int>(slot);
    char byte = 0;
    EXPECT_EQ(::recv(app.fd(slot), &byte, 1, 0), 1);
  }
}

}  // namespace
}  // namespace updagent::listen
