// What the exit code says: docs/exit-codes.md.
#include "agent/deploy/result.hpp"

#include <gtest/gtest.h>

#include <array>
#include <optional>

namespace updagent::deploy {
namespace {

using base::Code;
using base::Error;
using base::Exit;

constexpr std::array<Outcome, 6> kOutcomes = {Outcome::committed, Outcome::rolled_back,
                                              Outcome::aborted,   Outcome::refused,
                                              Outcome::unchanged, Outcome::rollback_failed};

DeployResult ended_as(Outcome outcome) {
  DeployResult result;
  result.outcome = outcome;
  return result;
}

DeployResult ended_as(Outcome outcome, Code code) {
  DeployResult result = ended_as(outcome);
  result.error = Error(code, "it did not go well");
  return result;
}

TEST(DeployResult, A_release_that_is_in_service_exits_0) {
  EXPECT_EQ(ended_as(Outcome::committed).exit(), Exit::done);
  EXPECT_EQ(ended_as(Outcome::unchanged).exit(), Exit::done);
}

TEST(DeployResult, A_release_that_was_undone_exits_4_whatever_was_wrong_with_it) {
  EXPECT_EQ(ended_as(Outcome::rolled_back).exit(), Exit::rolled_back);
  for (const Code code : {Code::probe_failed, Code::hook_failed, Code::interrupted, Code::damaged})
    EXPECT_EQ(ended_as(Outcome::rolled_back, code).exit(), Exit::rolled_back);
}

TEST(DeployResult, A_rollback_that_was_asked_for_exits_0) {
  DeployResult result = ended_as(Outcome::rolled_back);
  result.requested_rollback = true;
  EXPECT_EQ(result.exit(), Exit::done);
}

TEST(DeployResult, A_failed_way_back_exits_8_also_when_it_was_asked_for) {
  DeployResult result = ended_as(Outcome::rollback_failed, Code::rollback_failed);
  EXPECT_EQ(result.exit(), Exit::rollback_failed);
  result.requested_rollback = true;
  EXPECT_EQ(result.exit(), Exit::rollback_failed);
}

TEST(DeployResult, A_refusal_exits_as_its_code_says) {
  EXPECT_EQ(ended_as(Outcome::refused, Code::signature_missing).exit(), Exit::refused);
  EXPECT_EQ(ended_as(Outcome::refused, Code::held).exit(), Exit::usage);
  EXPECT_EQ(ended_as(Outcome::refused, Code::damaged).exit(), Exit::damaged);
}

TEST(DeployResult, An_attempt_that_changed_nothing_exits_as_its_code_says) {
  EXPECT_EQ(ended_as(Outcome::aborted, Code::interrupted).exit(), Exit::failed);
  EXPECT_EQ(ended_as(Outcome::aborted, Code::hook_failed).exit(), Exit::failed);
  EXPECT_EQ(ended_as(Outcome::aborted, Code::busy).exit(), Exit::busy);
  EXPECT_EQ(ended_as(Outcome::aborted, Code::fetch_failed).exit(), Exit::not_fetched);
  EXPECT_EQ(ended_as(Outcome::aborted, Code::config_invalid).exit(), Exit::usage);
}

TEST(DeployResult, Without_a_reason_an_attempt_that_changed_nothing_exits_1) {
  EXPECT_EQ(ended_as(Outcome::aborted).exit(), Exit::failed);
  EXPECT_EQ(ended_as(Outcome::refused).exit(), Exit::failed);
}

TEST(Outcome, Each_name_is_found_again) {
  for (const Outcome outcome : kOutcomes) {
    EXPECT_FALSE(outcome_name(outcome).empty());
    EXPECT_EQ(outcome_from_name(outcome_name(outcome)), std::optional<Outcome>(outcome));
  }
}

TEST(Outcome, Another_word_is_no_outcome) {
  EXPECT_EQ(outcome_from_name(""), std::nullopt);
  EXPECT_EQ(outcome_from_name("Committed"), std::nullopt);
}

}  // namespace
}  // namespace updagent::deploy
