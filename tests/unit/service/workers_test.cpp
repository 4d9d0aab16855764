#include "agent/service/workers.hpp"

#include <gtest/gtest.h>

#include <csignal>

namespace updagent::service {
namespace {

release::ResolvedService shop() {
  release::ResolvedService run;
  run.app = "shop";
  run.version = "2.0.0";
  run.release = "/srv/shop/releases/2.0.0";
  run.user = "shop";
  run.environment = {{"COLOUR", "green"}};
  run.environment_files = {"/etc/shop.env"};
  run.service.command = {"bin/shop", "{fd:http}"};
  run.service.protocol = release::Protocol::inject;
  run.service.groups = {"video"};
  run.service.rlimits = {{"nofile", 65536}};
  run.service.umask = 077;
  run.service.watchdog = base::Milliseconds(5'000);
  run.service.role_signal = SIGUSR1;
  run.service.stop_signal = SIGQUIT;
  run.service.socket_environment = {{"SOCKET", "{fd:http}"}};
  run.service.listeners.resize(1);
  run.service.workers = {{"mail", {"bin/mail"}, SIGINT, base::Milliseconds(1'500)}};
  return run;
}

TEST(Workers, Run_as_the_service_does_with_a_command_and_a_stop_of_their_own) {
  const release::ResolvedService run = shop();
  const release::ResolvedService own = worker_run(run, run.service.workers.front());
  EXPECT_EQ(own.service.command, std::vector<std::string>{"bin/mail"});
  EXPECT_EQ(own.service.stop_signal, SIGINT);
  EXPECT_EQ(own.service.stop_timeout, base::Milliseconds(1'500));
  EXPECT_EQ(own.version, run.version);
  EXPECT_EQ(own.user, run.user);
  EXPECT_EQ(own.environment, run.environment);
  EXPECT_EQ(own.environment_files, run.environment_files);
  EXPECT_EQ(own.service.groups, run.service.groups);
  EXPECT_EQ(own.service.rlimits, run.service.rlimits);
  EXPECT_EQ(own.service.umask, run.service.umask);
}

TEST(Workers, Have_nothing_that_belongs_to_a_listener_or_to_the_service_alone) {
  const release::ResolvedService run = shop();
  const release::ResolvedService own = worker_run(run, run.service.workers.front());
  EXPECT_TRUE(own.service.listeners.empty());
  EXPECT_TRUE(own.service.socket_environment.empty());
  EXPECT_TRUE(own.service.workers.empty());
  EXPECT_EQ(own.service.protocol, release::Protocol::systemd);
  EXPECT_EQ(own.service.watchdog, base::Milliseconds(0));
  EXPECT_EQ(own.service.role_signal, 0);
}

TEST(Workers, A_state_without_them_can_be_taken_over_and_a_damaged_one_can_not) {
  EXPECT_TRUE(WorkerSet::check(base::Json::object()));
  const auto damaged = WorkerSet::check({{"releases", {"no service"}}});
  ASSERT_FALSE(damaged);
  EXPECT_EQ(damaged.error().code(), base::Code::requires_agent);
}

}  // namespace
}  // namespace updagent::service
