#include "agent/launch/notify_memory.hpp"

#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/mman.h>

#include "agent/launch/notify_bind.hpp"
#include "tests/unit/base/test_directory.hpp"
#include "tests/unit/launch/talk_support.hpp"

namespace {

using namespace updagent::launch;
using namespace updagent::test;
using updagent::base::UniqueFd;

class NotifyMemoryTest : public ::testing::Test {
 protected:
  NotifyMemoryTest() {
    auto bound = bind_notify_socket(path_, 0);
    EXPECT_TRUE(bound.has_value()) << bound.error().line();
    if (bound) socket_ = std::move(*bound);
  }
  // One that the socket's short queue has room for, since it is read at once.
  void say(const std::string& text, const std::vector<int>& descriptors = {}) {
    ASSERT_EQ(send_notify(path_, text, descriptors), 0);
    memory_.read(socket_.get(), closer_);
    closer_.start();
  }
  std::vector<std::string> texts() const {
    std::vector<std::string> out;
    for (const NotifyDatagram& message : memory_.messages()) out.push_back(message.text);
    return out;
  }

  TestDirectory directory_;
  std::string path_ = directory_.path("notify");
  UniqueFd socket_;
  UniqueFd epoll_{::epoll_create1(EPOLL_CLOEXEC)};
  DescriptorCloser closer_{epoll_.get(), 0};
  NotifyMemory memory_;
};

using Texts = std::vector<std::string>;

TEST_F(NotifyMemoryTest, A_sign_of_life_is_forgotten_and_the_newest_status_stays) {
  say("WATCHDOG=1");
  say("STATUS=one");
  say("WATCHDOG=1\nSTATUS=two\n");
  say("READY=1\nSTATUS=three");
  say("WATCHDOG=1\n");
  say("STATUS=four");
  EXPECT_EQ(texts(), (Texts{"READY=1\nSTATUS=three", "STATUS=four"}));
}

TEST_F(NotifyMemoryTest, What_is_said_again_is_kept_where_it_was_said_last) {
  for (const char* text : {"READY=1", "RELOADING=1", "READY=1", "WATCHDOG=trigger"}) say(text);
  EXPECT_EQ(texts(), (Texts{"RELOADING=1", "READY=1", "WATCHDOG=trigger"}));
}

TEST_F(NotifyMemoryTest, Nobody_replaces_what_another_process_said) {
  say("READY=1");
  say("STATUS=mine");
  Child other([&] { return send_notify(path_, "READY=1") | send_notify(path_, "STATUS=other"); });
  EXPECT_EQ(other.wait(), 0);
  memory_.read(socket_.get(), closer_);
  EXPECT_EQ(texts(), (Texts{"READY=1", "STATUS=mine", "READY=1", "STATUS=other"}));
  EXPECT_EQ(memory_.messages().front().sender.pid, ::getpid());
  EXPECT_NE(memory_.messages().back().sender.pid, ::getpid());
}

TEST_F(NotifyMemoryTest, The_newest_stay_when_there_are_too_many) {
  for (std::size_t i = 0; i <= kMaxRemembered; ++i) say("ERRNO=" + std::to_string(i));
  ASSERT_EQ(memory_.messages().size(), kMaxRemembered);
  EXPECT_EQ(texts().front(), "ERRNO=1");
  EXPECT_EQ(texts().back(), "ERRNO=" + std::to_string(kMaxRemembered));
}

TEST_F(NotifyMemoryTest, Descriptors_stay_open_while_they_are_kept_and_are_bounded) {
  const Pipe kept;
  say("FDSTORE=1\nFDNAME=first", {kept.writer.get()});
  const UniqueFd file(::memfd_create("state", MFD_CLOEXEC));
  const std::vector<int> many(kMaxRememberedDescriptors - 1, file.get());
  say("FDSTORE=1\nFDNAME=many", many);
  ASSERT_EQ(memory_.messages().size(), 2U);
  EXPECT_EQ(memory_.messages().back().descriptors.size(), many.size());
  say("FDSTORE=1\nFDNAME=one", {file.get()});
  EXPECT_EQ(texts(), (Texts{"FDSTORE=1\nFDNAME=many", "FDSTORE=1\nFDNAME=one"}));
  memory_.forget(closer_);
  EXPECT_TRUE(memory_.messages().empty());
}

TEST_F(NotifyMemoryTest, A_barrier_is_kept_until_somebody_has_judged_what_came_before) {
  Pipe barrier;
  say("READY=1");
  say("BARRIER=1", {barrier.writer.get()});
  barrier.writer.reset();
  EXPECT_FALSE(barrier.hung_up(0));
  memory_.forget(closer_);
  EXPECT_TRUE(barrier.hung_up());
}

TEST_F(NotifyMemoryTest, The_sender_is_known_by_more_than_its_number) {
  say("READY=1");
  EXPECT_TRUE(memory_.messages().front().sender.pidfd);
}

}  // namespace
