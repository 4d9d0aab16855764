#include "agent/service/loop.hpp"

#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <string>

namespace updagent::service {
namespace {

using base::Milliseconds;

struct Signal {
  base::UniqueFd fd{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  void raise() const { EXPECT_EQ(::eventfd_write(fd.get(), 1), 0); }
  void take() const {
    eventfd_t value = 0;
    EXPECT_EQ(::eventfd_read(fd.get(), &value), 0);
  }
};

std::unique_ptr<Loop> make_loop() {
  auto loop = Loop::create();
  EXPECT_TRUE(loop);
  return std::move(*loop);
}

TEST(Loop, Timers_come_in_the_order_of_their_time_and_then_of_their_making) {
  const auto loop = make_loop();
  std::string order;
  const Watch c = loop->after(Milliseconds(20), [&] {
    order += "c";
    loop->stop();
  });
  const Watch a = loop->after(Milliseconds(0), [&] { order += "a"; });
  const Watch b = loop->after(Milliseconds(0), [&] { order += "b"; });
  ASSERT_TRUE(loop->run());
  EXPECT_EQ(order, "abc");
}

TEST(Loop, A_timer_is_never_early) {
  const auto loop = make_loop();
  const std::int64_t began_us = base::monotonic_now_us();
  std::int64_t came_us = 0;
  const Watch timer = loop->after(Milliseconds(15), [&] {
    came_us = base::monotonic_now_us();
    loop->stop();
  });
  ASSERT_TRUE(loop->run());
  EXPECT_GE(came_us - began_us, 15'000);
}

TEST(Loop, A_timer_that_sets_itself_again_does_not_hold_up_descriptors) {
  const auto loop = make_loop();
  const Signal signal;
  signal.raise();
  Watch again;
  std::function<void()> spin = [&] { again = loop->after(Milliseconds(0), spin); };
  spin();
  const auto watch = loop->watch(signal.fd.get(), EPOLLIN, [&] { loop->stop(); });
  ASSERT_TRUE(watch);
  EXPECT_TRUE(loop->run());
}

TEST(Loop, An_action_may_end_its_own_watch_and_that_of_another_in_the_same_round) {
  const auto loop = make_loop();
  const Signal one;
  const Signal other;
  one.raise();
  other.raise();
  Watch first;
  Watch second;
  int calls = 0;
  const auto act = [&] {
    ++calls;
    first.reset();
    second.reset();
  };
  auto made = loop->watch(one.fd.get(), EPOLLIN, act);
  ASSERT_TRUE(made);
  first = std::move(*made);
  made = loop->watch(other.fd.get(), EPOLLIN, act);
  ASSERT_TRUE(made);
  second = std::move(*made);
  const Watch end = loop->after(Milliseconds(30), [&] { loop->stop(); });
  ASSERT_TRUE(loop->run());
  EXPECT_EQ(calls, 1);
}

TEST(Loop, A_watch_that_was_moved_lives_on_in_its_new_place_only) {
  const auto loop = make_loop();
  const Signal signal;
  signal.raise();
  int calls = 0;
  auto made = loop->watch(signal.fd.get(), EPOLLIN, [&] {
    ++calls;
    signal.take();
    loop->stop();
  });
  ASSERT_TRUE(made);
  Watch kept;
  {
    Watch moved = std::move(*made);
    kept = std::move(moved);
    EXPECT_FALSE(moved);  // NOLINT(bugprone-use-after-move): that is the question
  }
  ASSERT_TRUE(loop->run());
  EXPECT_EQ(calls, 1);
}

TEST(Loop, A_descriptor_that_can_not_be_watched_is_an_error) {
  const auto loop = make_loop();
  EXPECT_FALSE(loop->watch(-1, EPOLLIN, [] {}));
}

}  // namespace
}  // namespace updagent::service
