// The parts of inject between a server's bind(2) and its answer, with servers that are this program
// itself. inject_server_test.cpp has real ones, inject_death_test.cpp what dies on the way.
#include "agent/launch/inject.hpp"

#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <thread>

#include "tests/unit/base/test_directory.hpp"
#include "tests/unit/launch/inject_support.hpp"

namespace {

using namespace updagent::launch;
using namespace updagent::test;

// Exit statuses of the servers: 0, or the number of the check that failed.
#define MUST(number, condition) \
  if (!(condition)) return number

TEST(Inject, A_server_that_binds_the_address_of_a_listener_gets_the_listener) {
  const Listener listener;
  const std::uint64_t cookie = cookie_of(listener.fd());
  Supervisor supervisor({listener.described()});
  Target target([&] {
    const UniqueFd socket = new_socket();
    const int number = socket.get();
    MUST(1, bind_to(socket, listener.name()));
    MUST(2, ::listen(number, 16) == 0);
    MUST(3, cookie_of(number) == cookie);
    const UniqueFd client(::accept(number, nullptr, nullptr));
    MUST(4, ::write(client.get(), "hello", 5) == 5);
    return 0;
  });
  const UniqueFd client = new_socket();
  ASSERT_EQ(::connect(client.get(), listener.name().get(), listener.name().length), 0);
  EXPECT_EQ(supervisor.serve(target), 0);
  std::array<char, 8> answer{};
  EXPECT_EQ(::read(client.get(), answer.data(), answer.size()), 5);
  ASSERT_EQ(supervisor.reports.size(), 1U);
  EXPECT_EQ(supervisor.reports[0].result, InjectResult::injected);
  EXPECT_EQ(supervisor.reports[0].listener, "http");
  EXPECT_EQ(supervisor.reports[0].asked, "tcp:127.0.0.1:" + std::to_string(listener.port()));
  EXPECT_TRUE(supervisor.reports[0].notes.empty());
  EXPECT_TRUE(supervisor.injector().all_bound().has_value());
}

TEST(Inject, Without_a_process_left_it_has_ended) {
  const Listener listener;
  Supervisor supervisor({listener.described()});
  Target target([] { return 0; });
  EXPECT_EQ(supervisor.serve(target), 0);
  EXPECT_TRUE(supervisor.serve_until([&] { return supervisor.injector().ended(); }));
  EXPECT_FALSE(becomes_readable(supervisor.injector().event_fd(), 0)) << "and wakes nobody";
}

TEST(Inject, Other_binds_go_on_untouched_and_fail_as_they_would) {
  const Listener listener;
  const Listener other;  // of somebody else
  Supervisor supervisor({listener.described()});
  Target target([&] {
    const UniqueFd any = new_socket();
    MUST(1, bind_to(any, in_name("127.0.0.1", 0)) && port_of(bound_name(any.get())) != 0);
    const UniqueFd netlink = new_socket(AF_NETLINK, SOCK_RAW);
    sockaddr_storage address{};
    address.ss_family = AF_NETLINK;
    MUST(2, ::bind(netlink.get(), reinterpret_cast<sockaddr*>(&address), 12) == 0);
    const UniqueFd taken = new_socket();
    MUST(3, !bind_to(taken, other.name()) && errno == EADDRINUSE);
    const Name name = listener.name();
    MUST(4, ::bind(999, name.get(), name.length) == -1 && errno == EBADF);
    MUST(5, ::bind(STDERR_FILENO, name.get(), name.length) == -1 && errno == ENOTSOCK);
    MUST(6, ::bind(taken.get(), reinterpret_cast<sockaddr*>(8), 16) == -1 && errno == EFAULT);
    MUST(7, ::bind(taken.get(), name.get(), 1000) == -1 && errno == EINVAL);
    MUST(8, ::bind(taken.get(), name.get(), 0) == -1 && errno == EINVAL);
    return 0;
  });
  EXPECT_EQ(supervisor.serve(target), 0);
  EXPECT_EQ(supervisor.of(InjectResult::passed).size(), 8U);
  const auto status = supervisor.injector().all_bound();
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().message(), "the service has not bound 'http'");
  EXPECT_EQ(status.error().expected(), "tcp:127.0.0.1:" + std::to_string(listener.port()));
  EXPECT_EQ(status.error().got(), "tcp:127.0.0.1:" + std::to_string(other.port()));
}

TEST(Inject, Status_flags_and_close_on_exec_are_those_that_the_server_had_set) {
  for (const bool set : {false, true}) {
    const Listener listener;
    ::fcntl(listener.fd(), F_SETFL, set ? 0 : O_NONBLOCK);  // the opposite
    Supervisor supervisor({listener.described()});
    Target target([&] {
      const UniqueFd socket(
          ::socket(AF_INET, SOCK_STREAM | (set ? SOCK_NONBLOCK | SOCK_CLOEXEC : 0), 0));
      MUST(1, bind_to(socket, listener.name()));
      MUST(2, ((::fcntl(socket.get(), F_GETFL) & O_NONBLOCK) != 0) == set);
      MUST(3, ((::fcntl(socket.get(), F_GETFD) & FD_CLOEXEC) != 0) == set);
      return 0;
    });
    EXPECT_EQ(supervisor.serve(target), 0) << set;
    EXPECT_EQ(supervisor.of(InjectResult::injected).size(), 1U);
  }
}

TEST(Inject, Socket_options_come_over_and_those_of_the_group_are_named) {
  const Listener listener;
  set_option(listener.fd(), SOL_SOCKET, SO_KEEPALIVE, 0);
  set_option(listener.fd(), IPPROTO_TCP, TCP_KEEPCNT, 7);  // of the group; the server leaves it
  Supervisor supervisor({listener.described()});
  Target target([&] {
    const UniqueFd socket = new_socket();
    const int fd = socket.get();
    const timeval five_seconds{5, 0};
    MUST(1, set_option(fd, SOL_SOCKET, SO_RCVBUF, 40'000) &&
                set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1) &&
                set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1) &&
                set_option(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, 3) &&
                set_option(fd, IPPROTO_IP, IP_TOS, 0x10) &&
                set_option(fd, IPPROTO_TCP, TCP_SAVE_SYN, 1) &&
                set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1) &&
                ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &five_seconds, sizeof five_seconds) == 0);
    const int deferred = option_of(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT);
    MUST(2, bind_to(socket, listener.name()));
    MUST(3, option_of(fd, SOL_SOCKET, SO_RCVBUF) == 80'000);
    MUST(4, option_of(fd, SOL_SOCKET, SO_KEEPALIVE) == 1);
    MUST(5, option_of(fd, IPPROTO_TCP, TCP_NODELAY) == 1);
    MUST(6, option_of(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT) == deferred);
    MUST(7, option_of(fd, IPPROTO_IP, IP_TOS) == 0x10);
    MUST(8, option_of(fd, IPPROTO_TCP, TCP_SAVE_SYN) == 0);
    MUST(9, option_of(fd, IPPROTO_TCP, TCP_KEEPCNT) == 7);
    timeval timeout{};
    socklen_t length = sizeof timeout;
    MUST(10,
         ::getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, &length) == 0 && timeout.tv_sec == 5);
    return 0;
  });
  EXPECT_EQ(supervisor.serve(target), 0);
  ASSERT_EQ(supervisor.reports.size(), 1U);
  ASSERT_EQ(supervisor.reports[0].notes.size(), 1U);
  EXPECT_TRUE(supervisor.reports[0].notes[0].starts_with("TCP_SAVE_SYN is not taken over"));
}

TEST(Inject, Every_bind_of_an_address_gets_the_same_socket) {
  const Listener listener;
  const std::uint64_t cookie = cookie_of(listener.fd());
  Supervisor supervisor({listener.described()});
  Target target([&] {
    {
      const UniqueFd trial = new_socket();
      MUST(1, bind_to(trial, listener.name()));
    }
    for (int worker = 0; worker < 3; ++worker)
      if (::fork() == 0) {
        const UniqueFd own = new_socket();
        set_option(own.get(), SOL_SOCKET, SO_REUSEPORT, 1);
        ::_exit(bind_to(own, listener.name()) && ::listen(own.get(), 5) == 0 &&
                        cookie_of(own.get()) == cookie
                    ? 0
                    : 1);
      }
    for (int worker = 0; worker < 3; ++worker) {
      int status = -1;
      ::wait(&status);
      MUST(2, status == 0);
    }
    return 0;
  });
  EXPECT_EQ(supervisor.serve(target), 0);
  EXPECT_EQ(supervisor.of(InjectResult::injected).size(), 4U);
  EXPECT_EQ(option_of(listener.fd(), SOL_SOCKET, SO_ACCEPTCONN), 1);
}

TEST(Inject, Threads_that_bind_at_the_same_time_each_get_theirs) {
  const Listener http;
  const Listener admin;
  Supervisor supervisor({http.described("http"), admin.described("admin")});
  Target target([&] {
    std::array<int, 32> results{};
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < results.size(); ++i)
      threads.emplace_back([&, i] {
        const Listener& wanted = i % 2 == 0 ? http : admin;
        const UniqueFd socket = new_socket();
        const bool bound = bind_to(socket, i % 4 == 3 ? in_name("127.0.0.1", 0) : wanted.name());
        const bool same = cookie_of(socket.get()) == cookie_of(wanted.fd());
        results[i] = bound && same == (i % 4 != 3) ? 0 : 1;
      });
    for (std::thread& thread : threads) thread.join();
    return static_cast<int>(std::ranges::count(results, 1));
  });
  EXPECT_EQ(supervisor.serve(target), 0);
  EXPECT_EQ(supervisor.of(InjectResult::injected).size(), 24U);
  EXPECT_EQ(supervisor.of(InjectResult::passed).size(), 8U);
  EXPECT_TRUE(supervisor.injector().all_bound().has_value());
}

TEST(Inject, An_epoll_registration_made_before_bind_is_made_again) {
  for (const ServiceTrust trust : {ServiceTrust::other_user, ServiceTrust::own_user}) {
    const Listener listener;
    Supervisor supervisor({listener.described()});
    supervisor.trust = trust;
    Target target([&] {
      const UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
      const UniqueFd other(::epoll_create1(EPOLL_CLOEXEC));
      // far from the numbers of the supervisor's own
      const UniqueFd socket(::fcntl(new_socket().get(), F_DUPFD, 700));
      epoll_event event{EPOLLIN | EPOLLET, {.u64 = 0x1234'5678'9ABC'DEF0}};
      MUST(1, ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, socket.get(), &event) == 0);
      MUST(2, bind_to(socket, listener.name()));
      MUST(3, ::listen(socket.get(), 5) == 0);
      const UniqueFd client = new_socket();
      const Name name = listener.name();
      MUST(4, ::connect(client.get(), name.get(), name.length) == 0);
      epoll_event got{};
      MUST(5, ::epoll_wait(epoll.get(), &got, 1, kPatienceMs) == 1);
      MUST(6, got.data.u64 == 0x1234'5678'9ABC'DEF0);
      MUST(7, ::epoll_ctl(epoll.get(), EPOLL_CTL_MOD, socket.get(), &event) == 0);
      MUST(8, ::epoll_ctl(epoll.get(), EPOLL_CTL_DEL, socket.get(), nullptr) == 0);
      return 0;
    });
    EXPECT_EQ(supervisor.serve(target), 0);
    ASSERT_EQ(supervisor.reports.size(), 1U);
    ASSERT_EQ(supervisor.reports[0].notes.size(), 1U);
    EXPECT_EQ(supervisor.reports[0].notes[0],
              "an epoll registration made before bind was made again on the listener");
  }
}

TEST(Inject, An_epoll_registration_that_cannot_be_made_again_is_named) {
  const Listener listener;
  Supervisor supervisor({listener.described()});
  supervisor.trust = ServiceTrust::own_user;  // then our own table must have the number free
  const UniqueFd taken(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 600));
  Target target([&] {
    const UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
    const UniqueFd socket(::dup2(new_socket().get(), taken.get()));
    epoll_event event{EPOLLIN, {.u64 = 1}};
    MUST(1, ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, socket.get(), &event) == 0);
    MUST(2, bind_to(socket, listener.name()));
    return 0;
  });
  EXPECT_EQ(supervisor.serve(target), 0);
  ASSERT_EQ(supervisor.reports.size(), 1U);
  ASSERT_EQ(supervisor.reports[0].notes.size(), 1U);
  EXPECT_NE(supervisor.reports[0].notes[0].find("is lost"), std::string::npos);
}

TEST(Inject, Unix_sockets_are_known_by_path_by_folder_and_by_abstract_name) {
  const TestDirectory directory;
  ASSERT_EQ(::symlink(directory.path().c_str(), directory.path("link").c_str()), 0);
  const std::string public_path = directory.path("public.sock");
  const std::string abstract = "@updagent-test-" + std::to_string(::getpid());
  const Listener by_path(unix_name_of(directory.path("generation-5.sock")));
  const Listener by_name(unix_name_of(abstract));
  Supervisor supervisor(
      {by_path.described("path", unix_name_of(public_path)), by_name.described("name")});
  Target target([&] {
    for (const std::string& path :
         {public_path, directory.path("link/public.sock"), std::string("public.sock")}) {
      const UniqueFd socket = new_socket(AF_UNIX);
      MUST(1, ::chdir(directory.path().c_str()) == 0);
      MUST(2, bind_to(socket, unix_name_of(path)));
      MUST(3, cookie_of(socket.get()) == cookie_of(by_path.fd()));
    }
    const UniqueFd named = new_socket(AF_UNIX);
    MUST(4, bind_to(named, unix_name_of(abstract)));
    MUST(5, cookie_of(named.get()) == cookie_of(by_name.fd()));
    const UniqueFd datagrams = new_socket(AF_UNIX, SOCK_DGRAM);
    MUST(6, bind_to(datagrams, unix_name_of(abstract)));  // types have names of their own
    MUST(7, cookie_of(datagrams.get()) != cookie_of(by_name.fd()));
    return 0;
  });
  EXPECT_EQ(supervisor.serve(target), 0);
  EXPECT_EQ(supervisor.of(InjectResult::injected).size(), 4U);
  EXPECT_NE(::access(public_path.c_str(), F_OK), 0) << "the name is the supervisor's to make";
}

TEST(Inject, The_same_address_of_another_network_is_another_address) {
  const Listener listener(in_name("0.0.0.0", 0));
  Supervisor supervisor({listener.described()});
  Target target(
      [&] {
        if (::unshare(CLONE_NEWNET) != 0) return 77;
        const UniqueFd socket = new_socket();
        MUST(1, bind_to(socket, listener.name()));
        MUST(2, cookie_of(socket.get()) != cookie_of(listener.fd()));
        return 0;
      },
      {.wait_killable = true, .user = 0});
  const int status = supervisor.serve(target);
  if (status == 77) GTEST_SKIP() << "no network namespace can be made here";
  EXPECT_EQ(status, 0);
  EXPECT_EQ(supervisor.of(InjectResult::passed).size(), 1U);
}

TEST(Inject, A_listener_that_is_open_to_more_is_not_given_and_why_is_said) {
  const Listener listener(in_name("0.0.0.0", 0));
  Supervisor supervisor({listener.described()});
  Target target([&] {
    const UniqueFd socket = new_socket();
    return bind_to(socket, in_name("127.0.0.1", listener.port())) ? 1 : 0;
  });
  EXPECT_EQ(supervisor.serve(target), 0) << "the kernel says EADDRINUSE";
  ASSERT_EQ(supervisor.reports.size(), 1U);
  ASSERT_EQ(supervisor.reports[0].notes.size(), 1U);
  EXPECT_NE(supervisor.reports[0].notes[0].find("open to more"), std::string::npos);
}

TEST(Inject, Many_binds_leave_nothing_open) {
  const Listener listener;
  const std::size_t before = open_descriptors();
  {
    Supervisor supervisor({listener.described()});
    Target target([&] {
      for (int i = 0; i < 50; ++i) {
        const UniqueFd socket = new_socket();
        MUST(1, bind_to(socket, i % 2 == 0 ? listener.name() : in_name("127.0.0.1", 0)));
      }
      return 0;
    });
    EXPECT_EQ(supervisor.serve(target), 0);
    EXPECT_EQ(supervisor.reports.size(), 50U);
  }
  EXPECT_EQ(open_descriptors(), before);
}

TEST(Inject, Listeners_that_cannot_be_served_are_refused) {
  const Listener listener;
  const auto create = [&](const InjectListener& described) {
    InjectSetup setup;
    setup.journal = InjectJournal::make().value();
    setup.listeners = {described};
    return Injector::create(std::move(setup), nullptr);
  };
  InjectListener no_socket = listener.described();
  no_socket.socket_fd = -1;
  EXPECT_FALSE(create(no_socket).has_value());
  InjectListener wrong_type = listener.described();
  wrong_type.type = SOCK_DGRAM;
  EXPECT_FALSE(create(wrong_type).has_value());
  InjectListener no_address = listener.described();
  no_address.address_length = 2;
  EXPECT_FALSE(create(no_address).has_value());
}

}  // namespace
