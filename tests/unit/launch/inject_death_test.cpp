// What dies, is interrupted, hangs or is not allowed between bind(2) and its answer.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "tests/unit/launch/inject_support.hpp"

namespace {

using namespace updagent::launch;
using namespace updagent::test;

std::function<int()> binds(const Listener& listener) {
  return [&listener] {
    const UniqueFd socket = new_socket();
    if (!bind_to(socket, listener.name())) return errno;
    return cookie_of(socket.get()) == cookie_of(listener.fd()) ? 0 : 200;
  };
}

// --- signals ------------------------------------------------------------------------------------

void ignore_signal(int) {}

// Binds while a timer interrupts it all the time, as Go's scheduler does.
int bind_under_signals(const Listener& listener, bool again_after_interrupt) {
  struct sigaction action{};
  action.sa_handler = ignore_signal;
  ::sigaction(SIGALRM, &action, nullptr);
  const itimerval often{{0, 2000}, {0, 2000}};
  ::setitimer(ITIMER_REAL, &often, nullptr);
  for (int i = 0; i < 20; ++i) {
    const UniqueFd socket = new_socket();
    bool bound = bind_to(socket, listener.name());
    while (!bound && again_after_interrupt && errno == EINTR)
      bound = bind_to(socket, listener.name());
    if (!bound) return errno;
    if (cookie_of(socket.get()) != cookie_of(listener.fd())) return 200;
  }
  return 0;
}

TEST(InjectDeath, Signals_do_not_interrupt_a_bind_that_has_been_taken) {
  const Listener listener;
  Supervisor supervisor({listener.described()});
  // EINTR is possible only before the request was taken
  Target target([&] { return bind_under_signals(listener, true); });
  EXPECT_EQ(supervisor.serve(target), 0);
  EXPECT_EQ(supervisor.of(InjectResult::injected).size(), 20U);
}

TEST(InjectDeath, Without_killable_waiting_an_interrupted_bind_that_comes_again_is_answered) {
  const Listener listener;
  Supervisor supervisor({listener.described()});
  supervisor.trust = ServiceTrust::own_user;  // quick enough to get through between two signals
  Target target([&] { return bind_under_signals(listener, true); },
                {.wait_killable = false, .user = 0});
  EXPECT_EQ(supervisor.serve(target), 0);
}

// --- the service dies ---------------------------------------------------------------------------

TEST(InjectDeath, A_service_that_is_killed_before_its_request_is_taken_holds_nobody_up) {
  const Listener listener;
  Supervisor supervisor({listener.described()});
  Target target(binds(listener));
  supervisor.attend(target);
  target.go();
  ASSERT_TRUE(becomes_readable(supervisor.injector().event_fd()));
  target.kill();
  ASSERT_TRUE(becomes_readable(target.pidfd()));
  EXPECT_TRUE(supervisor.serve_until([&] { return supervisor.injector().ended(); }));
  EXPECT_TRUE(supervisor.of(InjectResult::injected).empty());
}

TEST(InjectDeath, A_service_that_is_killed_after_its_request_was_taken_holds_nobody_up) {
  const Listener listener;
  Supervisor supervisor({listener.described()});
  Target target(binds(listener));
  supervisor.attend(target);
  target.go();
  ASSERT_TRUE(becomes_readable(supervisor.injector().event_fd()));
  supervisor.injector().on_event();
  EXPECT_FALSE(supervisor.injector().idle());
  target.kill();
  EXPECT_EQ(target.wait(), 1000 + SIGKILL);
  EXPECT_TRUE(supervisor.serve_until(
      [&] { return supervisor.injector().idle() && supervisor.injector().ended(); }));
  EXPECT_EQ(supervisor.of(InjectResult::gone).size(), 1U);
}

// --- the supervisor dies ------------------------------------------------------------------------

enum class DiesAfter { receiving, replacing };

// What a supervisor does until it is killed at the worst moments.
int begin_and_die(const UniqueFd& notify, int journal_fd, const Listener& listener,
                  DiesAfter after) {
  auto journal = InjectJournal::open(journal_fd);
  if (!journal || !becomes_readable(notify.get())) return 1;
  journal->entry(3).busy = 1;
  if (::ioctl(notify.get(), SECCOMP_IOCTL_NOTIF_RECV, &journal->entry(3).request) != 0) return 2;
  if (after == DiesAfter::replacing) {
    seccomp_notif_addfd add{};
    add.id = journal->entry(3).request.id;
    add.flags = SECCOMP_ADDFD_FLAG_SETFD;
    add.srcfd = static_cast<std::uint32_t>(listener.fd());
    add.newfd = static_cast<std::uint32_t>(journal->entry(3).request.data.args[0]);
    if (::ioctl(notify.get(), SECCOMP_IOCTL_NOTIF_ADDFD, &add) < 0) return 3;
  }
  return ::raise(SIGKILL);
}

TEST(InjectDeath, A_successor_finishes_the_request_that_a_killed_supervisor_had_taken) {
  for (const DiesAfter after : {DiesAfter::receiving, DiesAfter::replacing}) {
    const Listener listener;
    Supervisor successor({listener.described()});
    Target target(binds(listener));
    target.go();
    Child predecessor(
        [&] { return begin_and_die(target.notify(), successor.journal_fd(), listener, after); });
    EXPECT_EQ(WTERMSIG(predecessor.wait()), SIGKILL);
    EXPECT_FALSE(becomes_readable(target.pidfd(), 0)) << "it waits";
    EXPECT_EQ(successor.serve(target), 0);
    EXPECT_EQ(successor.of(InjectResult::injected).size(), 1U);
    EXPECT_TRUE(successor.injector().all_bound().has_value());
  }
}

TEST(InjectDeath, A_bind_survives_a_supervisor_that_is_killed_at_any_moment) {
  const Listener listener;
  for (int moment = 0; moment < 12; ++moment) {
    Supervisor supervisor({listener.described()});
    Target target(binds(listener));
    target.go();
    Child predecessor([&] {
      supervisor.attend(target);
      for (int turn = 0; turn <= moment / 4; ++turn) {
        if (!becomes_readable(supervisor.injector().event_fd())) return 1;
        supervisor.injector().on_event();
      }
      ::usleep(static_cast<useconds_t>(moment % 4) * 300);  // different places of its aside
      return ::raise(SIGKILL);
    });
    predecessor.wait();
    EXPECT_EQ(supervisor.serve(target), 0) << moment;
  }
}

TEST(InjectDeath, Which_listeners_were_bound_is_known_to_the_successor) {
  const Listener listener;
  Supervisor supervisor({listener.described()});
  Target target(binds(listener));
  EXPECT_EQ(supervisor.serve(target), 0);
  Target next([] { return 0; });
  supervisor.attend(next);
  EXPECT_TRUE(supervisor.injector().all_bound().has_value());
}

TEST(InjectDeath, A_bind_without_a_supervisor_waits_for_the_next_one) {
  const Listener listener;
  Target target(binds(listener));  // it holds the second duplicate
  target.go();
  {
    Supervisor none({listener.described()});
    none.attend(target);
  }
  EXPECT_FALSE(becomes_readable(target.pidfd(), 50));
  Supervisor next({listener.described()});
  EXPECT_EQ(next.serve(target), 0);
}

TEST(InjectDeath, A_journal_of_another_layout_is_refused) {
  const UniqueFd journal = InjectJournal::make().value();
  EXPECT_EQ(::ftruncate(journal.get(), 1), -1) << "nobody can take it away under the mapping";
  const std::uint64_t other_magic = 7;
  ASSERT_EQ(::pwrite(journal.get(), &other_magic, sizeof other_magic, 0), 8);
  EXPECT_FALSE(InjectJournal::open(journal.get()).has_value());
  const UniqueFd empty(::memfd_create("empty", MFD_CLOEXEC));
  EXPECT_FALSE(InjectJournal::open(empty.get()).has_value());
}

// --- the service attacks ------------------------------------------------------------------------

// Memory whose pages the process provides itself, and never does: who reads it waits for ever.
void* hanging_page() {
  const int handler = static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC));
  void* page = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  uffdio_api api{};
  api.api = UFFD_API;
  uffdio_register range{};
  range.range = {reinterpret_cast<std::uintptr_t>(page), 4096};
  range.mode = UFFDIO_REGISTER_MODE_MISSING;
  if (handler < 0 || page == MAP_FAILED || ::ioctl(handler, UFFDIO_API, &api) != 0 ||
      ::ioctl(handler, UFFDIO_REGISTER, &range) != 0)
    return nullptr;
  return page;
}

TEST(InjectDeath, An_address_that_cannot_be_read_stops_neither_the_supervisor_nor_others) {
  const Listener listener;
  Supervisor supervisor({listener.described()});
  supervisor.aside_limit_ms = 500;
  Pipe attacking;
  Target target(
      [&] {
        if (hanging_page() == nullptr) return 77;
        if (::fork() == 0) {
          void* page = hanging_page();
          const UniqueFd socket = new_socket();
          (void)!::write(attacking.writer.get(), "a", 1);
          ::_exit(::bind(socket.get(), static_cast<sockaddr*>(page), 16));
        }
        if (!becomes_readable(attacking.reader.get())) return 78;
        return binds(listener)();
      },
      {.wait_killable = true, .user = 0});
  supervisor.attend(target);
  target.go();
  EXPECT_TRUE(
      supervisor.serve_until([&] { return becomes_readable(target.pidfd(), 0); }, target.pidfd()));
  const int status = target.wait();
  if (status == 77) GTEST_SKIP() << "userfaultfd can't be used here";
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(supervisor.serve_until([&] { return supervisor.injector().idle(); }));
  EXPECT_EQ(supervisor.of(InjectResult::injected).size(), 1U);
  const auto failed = supervisor.of(InjectResult::failed);
  ASSERT_EQ(failed.size(), 1U);
  ::kill(failed[0].thread, SIGKILL);  // its bind hangs by itself now, as it would without us
  ASSERT_TRUE(failed[0].problem.has_value());
  EXPECT_NE(failed[0].problem->line().find("took too long"), std::string::npos);
}

// --- what we are not allowed to -----------------------------------------------------------------

TEST(InjectDeath, Without_the_right_to_look_into_the_service_that_is_named_and_binds_go_on) {
  Target target([] { return bind_to(new_socket(), in_name("127.0.0.1", 0)) ? 0 : 1; });
  Pipe answer;
  Child supervisor_of_another_user([&] {
    const Listener listener;
    Supervisor supervisor({listener.described()});
    supervisor.trust = ServiceTrust::own_user;
    if (::setgid(65533) != 0 || ::setuid(65533) != 0) return 1;
    supervisor.attend(target);
    target.go();
    if (!supervisor.serve_until([&] { return !supervisor.reports.empty(); })) return 2;
    const auto& problem = supervisor.reports[0].problem;
    const std::string text = problem ? problem->line() + "\n" + problem->hint() : "none";
    return ::write(answer.writer.get(), text.data(), text.size()) > 0 ? 0 : 3;
  });
  EXPECT_EQ(supervisor_of_another_user.wait(), 0);
  EXPECT_EQ(target.wait(), 0);
  std::array<char, 1024> bytes{};
  const ssize_t length = ::read(answer.reader.get(), bytes.data(), bytes.size());
  const std::string text(bytes.data(), static_cast<std::size_t>(std::max<ssize_t>(length, 0)));
  EXPECT_NE(text.find("Operation not permitted"), std::string::npos) << text;
  EXPECT_NE(text.find("CAP_SYS_PTRACE"), std::string::npos) << text;
}

}  // namespace
