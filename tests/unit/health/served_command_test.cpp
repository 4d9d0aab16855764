#include "agent/health/served_command.hpp"

#include <gtest/gtest.h>

#include <array>

namespace updagent::health {
namespace {

base::ChildSpec shell(const std::string& script) {
  base::ChildSpec spec;
  spec.argv = {"/bin/sh", "-c", script};
  return spec;
}

TEST(ServedCommandTest, SaysHowTheCommandEnded) {
  const auto ran = run_served(shell("echo so; exit 3"), {});
  ASSERT_TRUE(ran.has_value());
  EXPECT_EQ(ran->exit_status, 3);
  EXPECT_EQ(ran->output, "so\n");
}

TEST(ServedCommandTest, ServesOthersMeanwhile) {
  // the command ends only when the served one has answered: both are this loop's
  std::array<int, 2> wish{};
  std::array<int, 2> answer{};
  ASSERT_EQ(::pipe(wish.data()), 0);
  ASSERT_EQ(::pipe(answer.data()), 0);
  ProbeContext context;
  context.served.push_back({wish[0], [&] {
                              char byte = 0;
                              ASSERT_EQ(::read(wish[0], &byte, 1), 1);
                              ASSERT_EQ(::write(answer[1], "\n", 1), 1);
                            }});
  const std::string own = "/proc/" + std::to_string(::getpid()) + "/fd/";
  const auto ran = run_served(shell("echo -n x >" + own + std::to_string(wish[1]) +
                                    " && read line <" + own + std::to_string(answer[0])),
                              context);
  ASSERT_TRUE(ran.has_value());
  EXPECT_TRUE(ran->success()) << ran->output;
  for (const int fd : {wish[0], wish[1], answer[0], answer[1]}) ::close(fd);
}

TEST(ServedCommandTest, AnErrorOfTheTickEndsTheCommand) {
  ProbeContext context;
  context.on_tick = [] { return base::Error(base::Code::probe_failed, "the candidate died"); };
  const auto ran = run_served(shell("exec sleep 1000"), context);
  ASSERT_FALSE(ran.has_value());
  EXPECT_EQ(ran.error().message(), "the candidate died");
}

TEST(ServedCommandTest, EndsWhatTakesTooLong) {
  base::ChildSpec spec = shell("exec sleep 1000");
  spec.time_limit = base::Milliseconds(50);
  const auto ran = run_served(spec, {});
  ASSERT_TRUE(ran.has_value());
  EXPECT_TRUE(ran->timed_out);
}

}  // namespace
}  // namespace updagent::health
