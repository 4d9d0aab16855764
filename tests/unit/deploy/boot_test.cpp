// What a supervisor that comes up is to do, and what systemd says of its unit.
#include <gtest/gtest.h>

#include "agent/deploy/order.hpp"
#include "agent/deploy/unit.hpp"

namespace updagent::deploy {
namespace {

TEST(Duty, Without_a_wish_the_committed_release_is_served_whatever_else_is_so) {
  for (const bool living : {false, true})
    for (const bool driven : {false, true})
      EXPECT_EQ(duty_at({false, living, driven}), Duty::serve) << living << driven;
}

TEST(Duty, What_is_to_be_stopped_is_not_started_and_what_is_left_of_it_is_ended) {
  EXPECT_EQ(duty_at({true, false, false}), Duty::nothing);
  EXPECT_EQ(duty_at({true, true, false}), Duty::end);
}

TEST(Duty, A_deployment_to_a_stopped_app_gets_its_supervisor_and_nothing_started) {
  EXPECT_EQ(duty_at({true, false, true}), Duty::adopt);
  EXPECT_EQ(duty_at({true, true, true}), Duty::adopt);
}

TEST(Unit, A_process_is_in_it_only_in_its_own_cgroup) {
  const std::string unit = unit_name("shop");
  EXPECT_TRUE(is_in_unit("0::/system.slice/system-updagent.slice/updagent@shop.service\n", unit));
  EXPECT_TRUE(is_in_unit("1:name=systemd:/system.slice/updagent@shop.service\n0::/\n", unit));
  EXPECT_FALSE(is_in_unit("0::/system.slice/updagent@shop.service/generation-3\n", unit));
  EXPECT_FALSE(is_in_unit("0::/system.slice/updagent@shop2.service\n", unit));
  EXPECT_FALSE(is_in_unit("0::/system.slice/evil-updagent@shop.service\n", unit));
  EXPECT_FALSE(is_in_unit("0::/user.slice/session-1.scope\n", unit));
  EXPECT_FALSE(is_in_unit("", unit));
}

TEST(Unit, The_job_is_that_of_the_unit_and_no_other) {
  const std::string jobs =
      " 412 updagent@shop.service      restart running\n"
      "413 updagent@shop2.service stop    waiting\n"
      "414 poweroff.target        start   waiting\n";
  EXPECT_EQ(job_type(jobs, unit_name("shop")), "restart");
  EXPECT_EQ(job_type(jobs, unit_name("shop2")), "stop");
  EXPECT_EQ(job_type(jobs, unit_name("other")), "");
  EXPECT_EQ(job_type("", unit_name("shop")), "");
  EXPECT_EQ(job_type("No jobs running.\n", unit_name("shop")), "");
}

}  // namespace
}  // namespace updagent::deploy
