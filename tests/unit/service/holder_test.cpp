#include "agent/service/holder.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/launch/notify_bind.hpp"
#include "tests/unit/base/test_directory.hpp"
#include "tests/unit/launch/talk_support.hpp"

namespace updagent::service {
namespace {

using base::UniqueFd;
using test::send_notify;
using test::TestDirectory;

constexpr const char* kName = "g7:notify_socket";
// More than the queue of a datagram socket takes (net.unix.max_dgram_qlen is 10, or 512).
constexpr int kSignsOfLife = 2'000;

class HolderTest : public ::testing::Test {
 protected:
  HolderTest() {
    connect();
    auto bound = launch::bind_notify_socket(path_, 0);
    EXPECT_TRUE(bound.has_value()) << bound.error().line();
    if (bound) socket_ = std::move(*bound);
    EXPECT_TRUE(holder_->put_notify(kName, socket_.get()));
  }
  ~HolderTest() override {
    if (holder_) holder_->dismiss();
  }
  void connect() {
    auto holder = Holder::connect_or_start(directory_.path("held"));
    EXPECT_TRUE(holder.has_value()) << holder.error().line();
    if (holder) holder_ = std::move(*holder);
  }
  // As when the supervisor dies: nobody of us has the socket any more.
  void die() {
    holder_.reset();
    socket_.reset();
  }
  std::vector<launch::NotifyDatagram> heard() {
    auto all = holder_->hear();
    EXPECT_TRUE(all.has_value()) << all.error().line();
    return all ? std::move((*all)[kName]) : std::vector<launch::NotifyDatagram>();
  }

  TestDirectory directory_;
  std::string path_ = directory_.path("notify");
  std::optional<Holder> holder_;
  UniqueFd socket_;
};

TEST_F(HolderTest, What_is_said_while_nobody_is_connected_is_there_for_the_next_one) {
  die();
  const UniqueFd state(::memfd_create("state", MFD_CLOEXEC));
  ASSERT_EQ(::write(state.get(), "17", 2), 2);
  // would block for ever if nobody read
  for (int i = 0; i < kSignsOfLife; ++i) ASSERT_EQ(send_notify(path_, "WATCHDOG=1"), 0);
  ASSERT_EQ(send_notify(path_, "FDSTORE=1\nFDNAME=counter", {state.get(), state.get()}), 0);
  ASSERT_EQ(send_notify(path_, "READY=1\nSTATUS=two\nlines"), 0);
  connect();
  EXPECT_TRUE(holder_->was_running());
  auto held = holder_->take_all();
  ASSERT_TRUE(held.has_value()) << held.error().line();
  auto messages = heard();
  // what it had not read yet waits in the socket
  while (auto waiting = launch::receive_notify((*held)[kName].get()))
    if (waiting->text != "WATCHDOG=1") messages.push_back(std::move(*waiting));
  ASSERT_EQ(messages.size(), 2U);
  ASSERT_EQ(messages[0].descriptors.size(), 2U);
  char text[3] = {};
  EXPECT_EQ(::pread(messages[0].descriptors[1].get(), text, 2, 0), 2);
  EXPECT_STREQ(text, "17");
  EXPECT_EQ(messages[1].text, "READY=1\nSTATUS=two\nlines");
  EXPECT_EQ(messages[1].sender.pid, ::getpid());
  EXPECT_EQ(messages[1].sender.uid, ::geteuid());
  EXPECT_TRUE(messages[1].sender.pidfd);
}

TEST_F(HolderTest, It_keeps_that_until_it_is_told_to_forget) {
  die();
  ASSERT_EQ(send_notify(path_, "READY=1"), 0);
  for (int i = 0; i < kSignsOfLife; ++i) ASSERT_EQ(send_notify(path_, "WATCHDOG=1"), 0);
  // the queue is shorter than that: the READY has been read
  connect();
  EXPECT_EQ(heard().size(), 1U);
  die();
  connect();
  EXPECT_EQ(heard().size(), 1U);
  holder_->forget_heard();
  EXPECT_TRUE(heard().empty());
}

TEST_F(HolderTest, It_reads_nothing_while_somebody_is_connected) {
  ASSERT_EQ(send_notify(path_, "READY=1"), 0);
  EXPECT_TRUE(heard().empty());  // it has looked at all that there is for it, and answered
  const auto message = launch::receive_notify(socket_.get());
  ASSERT_TRUE(message);
  EXPECT_EQ(message->text, "READY=1");
}

TEST_F(HolderTest, A_socket_that_was_dropped_is_closed_and_nothing_of_it_is_kept) {
  ASSERT_TRUE(holder_->drop(kName));
  EXPECT_TRUE(heard().empty());  // in order: it has been dropped
  die();
  EXPECT_EQ(send_notify(path_, "READY=1"), ECONNREFUSED);
  connect();
}

}  // namespace
}  // namespace updagent::service
