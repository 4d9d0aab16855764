#include "agent/launch/notify_server.hpp"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <set>

#include "tests/unit/base/test_directory.hpp"
#include "tests/unit/launch/talk_support.hpp"

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif

namespace {

using namespace updagent::launch;
using namespace updagent::test;
using updagent::base::UniqueFd;

constexpr uid_t kServiceUser = 65534;

class NotifyServerTest : public ::testing::Test {
 protected:
  NotifyServerTest() { members_.insert(::getpid()); }

  Membership membership() {
    Membership out;
    out.has_process = [this](pid_t pid) { return members_.contains(pid); };
    return out;
  }
  std::unique_ptr<NotifyServer> serve(uid_t user = kServiceUser) {
    auto server = NotifyServer::bind(path_, user, membership());
    EXPECT_TRUE(server.has_value()) << server.error().line();
    return server ? std::move(*server) : nullptr;
  }
  // Messages until `count` of them have come.
  std::vector<NotifyEvent> take(NotifyServer& server, std::size_t count) {
    std::vector<NotifyEvent> events;
    turn_until(
        server.event_fd(),
        [&] { server.on_event([&](NotifyEvent& event) { events.push_back(std::move(event)); }); },
        [&] { return events.size() >= count; });
    return events;
  }
  static bool becomes_idle(NotifyServer& server) {
    return turn_until(
        server.event_fd(), [&] { server.on_event([](NotifyEvent&) {}); },
        [&] { return server.idle(); });
  }
  static std::vector<NotifyProblem> problems(const NotifyEvent& event) {
    std::vector<NotifyProblem> out;
    for (const auto& complaint : event.complaints) out.push_back(complaint.problem);
    return out;
  }

  TestDirectory directory_;
  std::string path_ = directory_.path("notify");
  std::set<pid_t> members_;
};

using Problems = std::vector<NotifyProblem>;

TEST_F(NotifyServerTest, A_message_of_a_process_of_the_generation_counts) {
  auto server = serve();
  Child child([&] { return send_notify(path_, "READY=1\nSTATUS=up"); });
  const pid_t pid = child.pid();
  members_.insert(pid);
  child.wait_for_death();
  const auto events = take(*server, 1);
  ASSERT_EQ(events.size(), 1U);
  EXPECT_TRUE(events[0].counts);
  EXPECT_EQ(events[0].sender, pid);
  EXPECT_EQ(events[0].sender_uid, 0U);
  EXPECT_EQ(events[0].message.lifecycle, Lifecycle::ready);
  EXPECT_EQ(events[0].message.status, "up");
}

TEST_F(NotifyServerTest, Nothing_that_a_stranger_says_counts) {
  auto server = serve();
  const Pipe pipe;
  Child child([&] { return send_notify(path_, "READY=1\nFDSTORE=1", {pipe.writer.get()}); });
  child.wait_for_death();
  const auto events = take(*server, 1);
  ASSERT_EQ(events.size(), 1U);
  EXPECT_FALSE(events[0].counts);
  EXPECT_EQ(problems(events[0]), Problems{NotifyProblem::stranger});
  EXPECT_EQ(events[0].message.lifecycle, Lifecycle::unchanged);
  EXPECT_TRUE(events[0].descriptors.empty());
}

TEST_F(NotifyServerTest, A_sender_that_is_quite_gone_is_not_taken_for_another) {
  auto server = serve();
  pid_t gone = 0;
  {
    Child child([&] { return send_notify(path_, "READY=1"); });
    gone = child.pid();
    EXPECT_EQ(child.wait(), 0);
  }
  members_.insert(gone);  // as if the pid had been given to a process of the generation since
  const auto events = take(*server, 1);
  ASSERT_EQ(events.size(), 1U);
  EXPECT_FALSE(events[0].counts);
  EXPECT_EQ(problems(events[0]), Problems{NotifyProblem::sender_gone});
}

// As before Linux 6.5: only the number of the sender comes with a message.
TEST_F(NotifyServerTest, Without_a_pidfd_the_sender_is_looked_up_when_its_message_is_read) {
  auto server = serve();
  set_option(server->socket_fd(), SOL_SOCKET, SO_PASSPIDFD, 0);
  Child alive([&] {
    (void)send_notify(path_, "READY=1");
    return ::pause();
  });
  members_.insert(alive.pid());
  auto events = take(*server, 1);
  ASSERT_EQ(events.size(), 1U);
  EXPECT_TRUE(events[0].counts);
  pid_t gone = 0;
  {
    Child child([&] { return send_notify(path_, "READY=1"); });
    gone = child.pid();
    EXPECT_EQ(child.wait(), 0);
  }
  members_.insert(gone);
  events = take(*server, 1);
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(problems(events[0]), Problems{NotifyProblem::sender_gone});
}

// A cgroup of version 2 that is gone with the object; empty path where there is none.
class TestCgroup {
 public:
  TestCgroup() {
    for (const char* root : {"/sys/fs/cgroup/unified", "/sys/fs/cgroup"}) {
      if (::access((std::string(root) + "/cgroup.procs").c_str(), F_OK) != 0) continue;
      const std::string path = std::string(root) + "/updagent-test-" + std::to_string(::getpid());
      if (::mkdir(path.c_str(), 0755) != 0) continue;
      path_ = path;
      return;
    }
  }
  TestCgroup(const TestCgroup&) = delete;
  TestCgroup& operator=(const TestCgroup&) = delete;
  ~TestCgroup() {
    if (!path_.empty()) ::rmdir(path_.c_str());
  }
  const std::string& path() const { return path_; }
  std::uint64_t id() const {
    struct stat status{};
    ::stat(path_.c_str(), &status);
    return status.st_ino;
  }

 private:
  std::string path_;
};

TEST_F(NotifyServerTest, A_sender_that_is_quite_gone_is_known_by_the_cgroup_it_died_in) {
  const TestCgroup cgroup;
  if (cgroup.path().empty()) GTEST_SKIP() << "no cgroup of version 2 can be made here";
  Membership by_cgroup = membership();
  by_cgroup.has_cgroup = [&](std::uint64_t id) { return id == cgroup.id(); };
  auto server = NotifyServer::bind(path_, kServiceUser, by_cgroup);
  ASSERT_TRUE(server.has_value()) << server.error().line();
  const auto send_from = [&](bool inside) {
    Child child([&] {
      if (inside) std::ofstream(cgroup.path() + "/cgroup.procs") << ::getpid() << std::flush;
      return send_notify(path_, "READY=1");
    });
    EXPECT_EQ(child.wait(), 0);
  };
  send_from(true);
  send_from(false);
  const auto events = take(**server, 2);
  ASSERT_EQ(events.size(), 2U);
  if (problems(events[0]) == Problems{NotifyProblem::sender_gone})
    GTEST_SKIP() << "this kernel keeps no cgroup of a process that is gone (Linux 6.16 does)";
  EXPECT_TRUE(events[0].counts);
  EXPECT_FALSE(events[1].counts);
  EXPECT_EQ(problems(events[1]), Problems{NotifyProblem::stranger});
}

TEST_F(NotifyServerTest, The_main_process_must_be_one_of_the_generation) {
  auto server = serve();
  Child child([] { return ::pause(); });
  EXPECT_EQ(send_notify(path_, "READY=1\nMAINPID=" + std::to_string(child.pid())), 0);
  auto events = take(*server, 1);
  ASSERT_EQ(events.size(), 1U);
  EXPECT_TRUE(events[0].counts);
  EXPECT_EQ(events[0].message.lifecycle, Lifecycle::ready) << "the rest of the message counts";
  EXPECT_FALSE(events[0].message.main_pid);
  EXPECT_FALSE(events[0].main_process);
  EXPECT_EQ(problems(events[0]), Problems{NotifyProblem::main_pid_refused});

  members_.insert(child.pid());
  EXPECT_EQ(send_notify(path_, "MAINPID=" + std::to_string(child.pid())), 0);
  events = take(*server, 1);
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].message.main_pid, child.pid());
  EXPECT_FALSE(becomes_readable(events[0].main_process.get(), 0));
  child.kill(SIGKILL);
  EXPECT_TRUE(becomes_readable(events[0].main_process.get())) << "it is that process's pidfd";
}

TEST_F(NotifyServerTest, Descriptors_are_handed_over_with_FDSTORE_and_closed_without) {
  auto server = serve();
  const UniqueFd one(::socket(AF_UNIX, SOCK_STREAM, 0));
  Pipe unasked;
  EXPECT_EQ(send_notify(path_, "FDSTORE=1\nFDNAME=state", {one.get(), one.get()}), 0);
  EXPECT_EQ(send_notify(path_, "STATUS=x", {unasked.writer.get()}), 0);
  unasked.writer.reset();
  const auto events = take(*server, 2);
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(events[0].descriptors.size(), 2U);
  EXPECT_NE(::fcntl(events[0].descriptors[0].get(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_TRUE(events[1].counts);
  EXPECT_EQ(problems(events[1]), Problems{NotifyProblem::descriptors_unexpected});
  EXPECT_TRUE(unasked.hung_up());
}

TEST_F(NotifyServerTest, What_the_handler_leaves_is_closed) {
  auto server = serve();
  const std::size_t before = open_descriptors();
  const UniqueFd one(::socket(AF_UNIX, SOCK_STREAM, 0));
  EXPECT_EQ(send_notify(path_, "FDSTORE=1", {one.get(), one.get(), one.get()}), 0);
  EXPECT_TRUE(becomes_readable(server->event_fd()));
  std::size_t seen = 0;
  server->on_event([&](NotifyEvent& event) { seen += event.descriptors.size(); });
  EXPECT_EQ(seen, 3U);
  EXPECT_TRUE(becomes_idle(*server));
  EXPECT_EQ(open_descriptors(), before + 1);
}

TEST_F(NotifyServerTest, A_barrier_is_released_after_everything_before_it_was_handled) {
  auto server = serve();
  Pipe barrier;
  EXPECT_EQ(send_notify(path_, "STATUS=one"), 0);
  EXPECT_EQ(send_notify(path_, "BARRIER=1", {barrier.writer.get()}), 0);
  barrier.writer.reset();
  std::vector<bool> released;
  server->on_event([&](NotifyEvent&) { released.push_back(barrier.hung_up(0)); });
  EXPECT_EQ(released, (std::vector<bool>{false, false}));
  EXPECT_TRUE(barrier.hung_up());
}

TEST_F(NotifyServerTest, A_barrier_with_none_or_two_descriptors_is_refused) {
  auto server = serve();
  Pipe pipe;
  EXPECT_EQ(send_notify(path_, "BARRIER=1"), 0);
  EXPECT_EQ(send_notify(path_, "BARRIER=1", {pipe.writer.get(), pipe.writer.get()}), 0);
  pipe.writer.reset();
  for (const auto& event : take(*server, 2)) {
    EXPECT_FALSE(event.counts);
    EXPECT_EQ(problems(event), Problems{NotifyProblem::refused});
  }
  EXPECT_TRUE(pipe.hung_up());
}

TEST_F(NotifyServerTest, A_message_that_lost_descriptors_on_the_way_does_not_count) {
  auto server = serve();
  const std::size_t before = open_descriptors();
  const UniqueFd one(::socket(AF_UNIX, SOCK_STREAM, 0));
  EXPECT_EQ(send_notify(path_, "READY=1\nFDSTORE=1", std::vector<int>(20, one.get())), 0);
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  rlimit low = limit;
  low.rlim_cur = static_cast<rlim_t>(one.get()) + 5;
  ::setrlimit(RLIMIT_NOFILE, &low);
  const auto events = take(*server, 1);
  ::setrlimit(RLIMIT_NOFILE, &limit);
  ASSERT_EQ(events.size(), 1U);
  EXPECT_FALSE(events[0].counts);
  EXPECT_EQ(problems(events[0]), Problems{NotifyProblem::descriptors_cut});
  EXPECT_EQ(send_notify(path_, "STATUS=next"), 0);
  EXPECT_TRUE(becomes_idle(*server));
  EXPECT_EQ(open_descriptors(), before + 1);
}

TEST_F(NotifyServerTest, Messages_that_are_none_are_named) {
  auto server = serve();
  EXPECT_EQ(send_notify(path_, "READY=1\n" + std::string(kMaxNotifyBytes, 'x')), 0);
  EXPECT_EQ(send_notify(path_, std::string("READY=1\0X=1", 11)), 0);
  EXPECT_EQ(send_notify(path_, "READY=1\nWATCHDOG=9"), 0);
  const auto events = take(*server, 3);
  ASSERT_EQ(events.size(), 3U);
  EXPECT_EQ(problems(events[0]), Problems{NotifyProblem::refused});
  EXPECT_EQ(problems(events[1]), Problems{NotifyProblem::refused});
  EXPECT_EQ(problems(events[2]), Problems{NotifyProblem::malformed});
  EXPECT_TRUE(events[2].counts);
}

TEST_F(NotifyServerTest, A_turn_takes_a_bounded_number_of_messages_and_none_is_lost) {
  auto server = serve();
  constexpr std::size_t kMessages = 300;
  Child flood([&] {
    for (std::size_t i = 0; i < kMessages; ++i)
      if (send_notify(path_, "STATUS=" + std::to_string(i)) != 0) return 1;
    return 0;
  });
  members_.insert(flood.pid());
  std::vector<std::string> texts;
  std::size_t most = 0;
  EXPECT_TRUE(turn_until(
      server->event_fd(),
      [&] {
        const std::size_t before = texts.size();
        server->on_event([&](NotifyEvent& event) {
          texts.push_back(event.counts ? event.message.status.value_or("") : "refused");
        });
        most = std::max(most, texts.size() - before);
      },
      [&] { return texts.size() >= kMessages; }));
  EXPECT_LE(most, static_cast<std::size_t>(kMaxMessagesPerTurn));
  for (std::size_t i = 0; i < texts.size(); ++i) EXPECT_EQ(texts[i], std::to_string(i));
  EXPECT_EQ(flood.wait(), 0);
}

TEST_F(NotifyServerTest, A_flood_of_descriptors_leaves_none_open) {
  auto server = serve();
  const std::size_t before = open_descriptors();
  Child flood([&] {
    const UniqueFd one(::socket(AF_UNIX, SOCK_STREAM, 0));
    for (int i = 0; i < 20; ++i)
      if (send_notify(path_, "STATUS=x", std::vector<int>(kMaxDescriptorsPerMessage, one.get())) !=
          0)
        return 1;
    return 0;
  });
  members_.insert(flood.pid());
  std::size_t messages = 0;
  EXPECT_TRUE(turn_until(
      server->event_fd(), [&] { server->on_event([&](NotifyEvent&) { ++messages; }); },
      [&] { return messages == 20; }));
  EXPECT_EQ(flood.wait(), 0);
  EXPECT_TRUE(becomes_idle(*server));
  EXPECT_EQ(open_descriptors(), before);
}

// Its close(2) waits for a peer that doesn't read. The other end; empty on failure.
UniqueFd fill_lingering_connection(UniqueFd& lingering) {
  const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto* any = reinterpret_cast<sockaddr*>(&address);
  if (::bind(listener.get(), any, length) != 0 || ::listen(listener.get(), 1) != 0 ||
      ::getsockname(listener.get(), any, &length) != 0)
    return {};
  lingering.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(lingering.get(), any, length) != 0) return {};
  UniqueFd peer(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  const std::string data(64 * 1024, 'x');
  while (::send(lingering.get(), data.data(), data.size(), MSG_DONTWAIT) > 0) continue;
  const linger option{1, 1000};
  ::setsockopt(lingering.get(), SOL_SOCKET, SO_LINGER, &option, sizeof option);
  return peer;
}

TEST_F(NotifyServerTest, A_descriptor_whose_close_hangs_stops_nobody) {
  auto server = serve();
  UniqueFd lingering;
  UniqueFd peer = fill_lingering_connection(lingering);
  ASSERT_TRUE(peer);
  EXPECT_EQ(send_notify(path_, "STATUS=take this", {lingering.get()}), 0);
  lingering.reset();  // not the last: the message holds it
  EXPECT_EQ(take(*server, 1).size(), 1U);
  EXPECT_EQ(send_notify(path_, "STATUS=still there?"), 0);
  const auto events = take(*server, 1);
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].message.status, "still there?");
  EXPECT_FALSE(server->idle()) << "the close did not hang: nothing was tested";
  peer.reset();  // resets the connection
  EXPECT_TRUE(becomes_idle(*server));
}

TEST_F(NotifyServerTest, A_socket_that_is_kept_over_exec_brings_its_queue) {
  auto server = serve();
  EXPECT_EQ(send_notify(path_, "STATUS=queued"), 0);
  UniqueFd kept(::fcntl(server->socket_fd(), F_DUPFD_CLOEXEC, 0));
  server.reset();
  auto successor = NotifyServer::adopt(std::move(kept), path_, membership());
  ASSERT_TRUE(successor.has_value()) << successor.error().line();
  const auto events = take(**successor, 1);
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].message.status, "queued");
}

}  // namespace
