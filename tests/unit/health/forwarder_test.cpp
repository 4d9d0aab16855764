// The forwarder between a client and a server that are both the test's: one thread serves all.
#include "agent/health/forwarder.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "agent/base/unique_fd.hpp"

namespace updagent::health {
namespace {

using base::UniqueFd;

constexpr base::Milliseconds kLimit{60'000};  // of each wait; far above what any needs

struct Listening {
  UniqueFd fd;
  ForwardTarget target;
};

Listening listening(int family, int backlog = 64) {
  Listening made;
  made.fd.reset(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  auto* storage = reinterpret_cast<sockaddr*>(&made.target.address);
  storage->sa_family = static_cast<sa_family_t>(family);
  made.target.name = "http";
  made.target.length = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  if (family == AF_INET)
    reinterpret_cast<sockaddr_in*>(storage)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  else
    reinterpret_cast<sockaddr_in6*>(storage)->sin6_addr = in6addr_loopback;
  EXPECT_EQ(::bind(made.fd.get(), storage, made.target.length), 0) << std::strerror(errno);
  EXPECT_EQ(::listen(made.fd.get(), backlog), 0);
  EXPECT_EQ(::getsockname(made.fd.get(), storage, &made.target.length), 0);
  return made;
}

UniqueFd connect_to(const std::string& address) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  to.sin_port = htons(static_cast<std::uint16_t>(std::stoi(address.substr(address.find(':') + 1))));
  UniqueFd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(::connect(client.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to), 0);
  return client;
}

// Serves the forwarder until `fd` is readable.
void serve(Forwarder& forwarder, int fd) {
  const base::Deadline end = base::Deadline::in(kLimit);
  while (!end.passed()) {
    std::array<pollfd, 2> waiting{{{forwarder.event_fd(), POLLIN, 0}, {fd, POLLIN, 0}}};
    ::poll(waiting.data(), waiting.size(), static_cast<int>(end.left().count()));
    if (waiting[0].revents != 0) forwarder.on_event();
    if (waiting[1].revents != 0) return;
  }
  FAIL() << "waited in vain";
}

// Until `done`, which may itself have work for the forwarder.
void serve_until(Forwarder& forwarder, const std::function<bool()>& done) {
  const base::Deadline end = base::Deadline::in(kLimit);
  while (!end.passed()) {
    if (done()) return;
    pollfd waiting{forwarder.event_fd(), POLLIN, 0};
    ::poll(&waiting, 1, 10);
    if (waiting.revents != 0) forwarder.on_event();
  }
  FAIL() << "waited in vain";
}

UniqueFd accept_one(Forwarder& forwarder, const Listening& server) {
  serve(forwarder, server.fd.get());
  return UniqueFd(::accept4(server.fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
}

// Up to the end of the stream, or as much as is asked for.
std::string receive(Forwarder& forwarder, int fd, std::size_t size = SIZE_MAX) {
  std::string text;
  std::array<char, 4096> buffer{};
  while (text.size() < size) {
    serve(forwarder, fd);
    const ssize_t got = ::recv(fd, buffer.data(), std::min(buffer.size(), size - text.size()), 0);
    if (got <= 0) return got < 0 ? std::string("error: ") + std::strerror(errno) : text;
    text.append(buffer.data(), static_cast<std::size_t>(got));
  }
  return text;
}

void send_all(int fd, std::string_view text) {
  ASSERT_EQ(::send(fd, text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
}

Forwarder open(const Listening& server, Steer steer = nullptr,
               base::Milliseconds patience = kLimit) {
  auto forwarder = Forwarder::open(std::span(&server.target, 1), std::move(steer), patience);
  EXPECT_TRUE(forwarder.has_value()) << forwarder.error().line();
  return std::move(*forwarder);
}

TEST(ForwarderTest, CarriesBytesBothWaysAndTheEndOfEachWay) {
  const Listening server = listening(AF_INET);
  Forwarder forwarder = open(server);
  const UniqueFd client = connect_to(forwarder.address(0));
  const UniqueFd served = accept_one(forwarder, server);
  send_all(client.get(), "question");
  ::shutdown(client.get(), SHUT_WR);
  EXPECT_EQ(receive(forwarder, served.get()), "question");
  send_all(served.get(), "answer");
  ::shutdown(served.get(), SHUT_WR);
  EXPECT_EQ(receive(forwarder, client.get()), "answer");
  EXPECT_EQ(forwarder.problem(), "");
}

TEST(ForwarderTest, CarriesMoreThanItsBuffersHold) {
  const Listening server = listening(AF_INET);
  Forwarder forwarder = open(server);
  const UniqueFd client = connect_to(forwarder.address(0));
  const UniqueFd served = accept_one(forwarder, server);
  const std::string much(3'000'000, 'x');
  std::size_t sent = 0;
  std::string got;
  std::array<char, 65536> buffer{};
  serve_until(forwarder, [&] {
    if (sent < much.size()) {
      const ssize_t gone =
          ::send(served.get(), much.data() + sent, much.size() - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (gone > 0) sent += static_cast<std::size_t>(gone);
    }
    const ssize_t taken = ::recv(client.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (taken > 0) got.append(buffer.data(), static_cast<std::size_t>(taken));
    return got.size() == much.size();
  });
  EXPECT_EQ(got, much);
}

TEST(ForwarderTest, TellsTheAddressesByTheHeaderOfTheProxyProtocol) {
  for (const int family : {AF_INET, AF_INET6}) {
    Listening server = listening(family);
    server.target.proxy_header = true;
    Forwarder forwarder = open(server);
    const UniqueFd client = connect_to(forwarder.address(0));
    sockaddr_storage peer{};
    socklen_t length = sizeof peer;
    serve(forwarder, server.fd.get());
    const UniqueFd served(
        ::accept4(server.fd.get(), reinterpret_cast<sockaddr*>(&peer), &length, SOCK_CLOEXEC));
    send_all(client.get(), "GET / HTTP/1.1\r\n");
    ::shutdown(client.get(), SHUT_WR);
    const auto port = [](const sockaddr_storage& address) {
      return std::to_string(ntohs(
          reinterpret_cast<const sockaddr_in&>(address).sin_port));  // at the same place in v6
    };
    const std::string ip = family == AF_INET ? "127.0.0.1" : "::1";
    EXPECT_EQ(receive(forwarder, served.get()),
              std::string("PROXY ") + (family == AF_INET ? "TCP4 " : "TCP6 ") + ip + " " + ip +
                  " " + port(peer) + " " + port(server.target.address) + "\r\nGET / HTTP/1.1\r\n");
  }
}

TEST(ForwarderTest, SteersEachConnectionAndLetsGoOfItsEntryOnceItIsThere) {
  const Listening server = listening(AF_INET);
  int entered = 0;
  int left = 0;
  Forwarder forwarder =
      open(server, [&](int, const sockaddr*) -> base::Result<std::function<void()>> {
        ++entered;
        return std::function<void()>([&] { ++left; });
      });
  const UniqueFd client = connect_to(forwarder.address(0));
  const UniqueFd served = accept_one(forwarder, server);
  serve_until(forwarder, [&] { return left == 1; });
  send_all(client.get(), "x");  // and it still carries
  EXPECT_EQ(receive(forwarder, served.get(), 1), "x");
  EXPECT_EQ(entered, 1);
}

TEST(ForwarderTest, NeverHoldsMoreEntriesThanItMay) {
  // a full queue: nobody answers the first packets of further connections
  Listening server = listening(AF_INET, 0);
  const UniqueFd queued(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const auto* address = reinterpret_cast<const sockaddr*>(&server.target.address);
  static_cast<void>(::connect(queued.get(), address, server.target.length));
  std::size_t held = 0;
  std::size_t most = 0;
  std::size_t entered = 0;
  Forwarder forwarder =
      open(server, [&](int, const sockaddr*) -> base::Result<std::function<void()>> {
        most = std::max(most, ++held);
        ++entered;
        return std::function<void()>([&] { --held; });
      });
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 6; ++i) clients.push_back(connect_to(forwarder.address(0)));
  serve_until(forwarder, [&] { return held == kMaxSteeredAtOnce; });
  // the next packets of these are refused: the others get their turn
  server.fd.reset();
  serve_until(forwarder, [&] { return entered == clients.size() && held == 0; });
  EXPECT_EQ(most, kMaxSteeredAtOnce);
}

TEST(ForwarderTest, WaitsForAPlaceWhereAllAreTaken) {
  const Listening server = listening(AF_INET);
  int asked = 0;
  Forwarder forwarder =
      open(server, [&](int, const sockaddr*) -> base::Result<std::function<void()>> {
        if (++asked < 3) return base::Error(base::Code::busy, "all places are taken");
        return std::function<void()>();
      });
  const UniqueFd client = connect_to(forwarder.address(0));
  EXPECT_TRUE(accept_one(forwarder, server));
  EXPECT_EQ(asked, 3);
}

TEST(ForwarderTest, ResetsWhatCannotBeConnectedAndSaysWhy) {
  Listening server = listening(AF_INET);
  server.fd.reset();  // nobody listens there any more
  Forwarder forwarder = open(server);
  const UniqueFd client = connect_to(forwarder.address(0));
  EXPECT_EQ(receive(forwarder, client.get()), "error: Connection reset by peer");
  EXPECT_EQ(forwarder.problem(), "cannot connect to listener 'http': Connection refused");
}

TEST(ForwarderTest, ResetsWhatNobodyTakesWithinItsPatience) {
  const Listening server = listening(AF_INET);
  Forwarder forwarder = open(
      server,
      [](int, const sockaddr*) -> base::Result<std::function<void()>> {
        return base::Error(base::Code::busy, "all places are taken");
      },
      base::Milliseconds(100));
  const UniqueFd client = connect_to(forwarder.address(0));
  EXPECT_EQ(receive(forwarder, client.get()), "error: Connection reset by peer");
  EXPECT_EQ(forwarder.problem(), "no connection to listener 'http' within 100ms");
}

TEST(ForwarderTest, HandsAResetOn) {
  const Listening server = listening(AF_INET);
  Forwarder forwarder = open(server);
  const UniqueFd client = connect_to(forwarder.address(0));
  UniqueFd served = accept_one(forwarder, server);
  const linger now{1, 0};
  ASSERT_EQ(::setsockopt(served.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
  served.reset();
  EXPECT_EQ(receive(forwarder, client.get()), "error: Connection reset by peer");
}

TEST(ForwarderTest, EachTargetHasADoorOfItsOwn) {
  const Listening one = listening(AF_INET);
  const Listening other = listening(AF_INET6);
  const std::array<ForwardTarget, 2> targets{one.target, other.target};
  auto forwarder = Forwarder::open(targets, nullptr);
  ASSERT_TRUE(forwarder.has_value());
  const UniqueFd first = connect_to(forwarder->address(0));
  const UniqueFd second = connect_to(forwarder->address(1));
  EXPECT_TRUE(accept_one(*forwarder, one));
  EXPECT_TRUE(accept_one(*forwarder, other));
}

TEST(ForwarderTest, ReachesAUnixSocketWithoutSteering) {
  Listening server;
  auto& path = reinterpret_cast<sockaddr_un&>(server.target.address);
  path.sun_family = AF_UNIX;
  const std::string name = testing::TempDir() + "forwarder-" + std::to_string(::getpid());
  std::strncpy(path.sun_path, name.c_str(), sizeof path.sun_path - 1);
  server.target.length = sizeof path;
  server.fd.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  ASSERT_EQ(::bind(server.fd.get(), reinterpret_cast<const sockaddr*>(&path), sizeof path), 0);
  ASSERT_EQ(::listen(server.fd.get(), 8), 0);
  Forwarder forwarder = open(server);
  const UniqueFd client = connect_to(forwarder.address(0));
  const UniqueFd served = accept_one(forwarder, server);
  send_all(served.get(), "hello");
  EXPECT_EQ(receive(forwarder, client.get(), 5), "hello");
  ::unlink(name.c_str());
}

}  // namespace
}  // namespace updagent::health
