#include <gtest/gtest.h>

#include "tests/unit/journal/support.hpp"

namespace updagent::journal::testing {
namespace {

std::int64_t minute(std::int64_t number) {
  return kBaseTimeUs + number * 60'000'000;
}

struct Fixture {
  TempDirectory root;
  Journal journal = open_journal(root.path());
  explicit Fixture(int events = 20) { record_events(journal, events); }
  std::int64_t prune(std::int64_t before_us, std::int64_t keep_at_most = 0) {
    return must(journal.prune(before_us, "uid=0 login=kai", keep_at_most));
  }
  std::string problem() { return must(journal.verify(std::nullopt)).problem; }
};

TEST(Prune, Removes_what_is_older_and_chains_a_checkpoint) {
  Fixture log;
  const auto before = all_events(log.journal);
  EXPECT_EQ(log.prune(minute(10)), 10);
  const auto after = all_events(log.journal);
  ASSERT_EQ(after.size(), 11U);
  EXPECT_EQ(after.front().event_id, 11);
  const Event& checkpoint = after.back();
  EXPECT_EQ(checkpoint.event, "log.pruned");
  EXPECT_EQ(checkpoint.event_id, 21);
  EXPECT_EQ(checkpoint.actor, "uid=0 login=kai");
  EXPECT_EQ(checkpoint.detail,
            Json({{"first", 1}, {"last", 10}, {"count", 10}, {"hash", before[9].hash.hex()}}));
  const VerifyReport report = must(log.journal.verify(std::nullopt));
  EXPECT_EQ(report.problem, "");
  EXPECT_EQ(report.first_event, 11);
  EXPECT_EQ(report.events, 11);
}

TEST(Prune, Can_be_done_again_and_everything_but_the_checkpoint_may_go) {
  Fixture log;
  EXPECT_EQ(log.prune(minute(5)), 5);
  EXPECT_EQ(log.prune(minute(15)), 10);
  EXPECT_EQ(log.problem(), "");
  const std::int64_t later = base::wall_now_us() + 3600LL * 1'000'000;
  EXPECT_EQ(log.prune(later), 7);  // five events and two checkpoints
  EXPECT_EQ(all_events(log.journal).size(), 1U);
  EXPECT_EQ(log.problem(), "");
  record_events(log.journal, 2, 30);
  EXPECT_EQ(log.problem(), "");
}

TEST(Prune, Makes_no_checkpoint_when_there_is_nothing_but_checkpoints_to_remove) {
  Fixture log;
  const std::int64_t later = base::wall_now_us() + 3600LL * 1'000'000;
  EXPECT_EQ(log.prune(later), 20);
  const HeadProof head = must(log.journal.head());
  EXPECT_EQ(log.prune(later), 0);
  EXPECT_EQ(must(log.journal.head()).count, head.count);
  EXPECT_EQ(log.prune(minute(0)), 0);
}

TEST(Prune, Never_touches_events_of_an_open_deployment) {
  Fixture log(5);
  const DeploymentRow open = sample_deployment(std::string(32, 'c'));
  EventDraft started = sample_event(5);
  started.trace_id = open.trace_id;
  must(log.journal.record(std::vector{started}, &open));
  record_events(log.journal, 5, 6);
  EXPECT_EQ(log.prune(minute(100)), 5);
  EXPECT_EQ(all_events(log.journal).front().trace_id, open.trace_id);
  EXPECT_EQ(log.problem(), "");
  const DeploymentRow closed = sample_deployment(open.trace_id, "committed");
  must(log.journal.record({}, &closed));
  EXPECT_EQ(log.prune(minute(100)), 6);
}

TEST(Prune, Keeps_rows_of_deployments_and_releases) {
  Fixture log(0);
  const DeploymentRow closed = sample_deployment(std::string(32, 'c'), "committed");
  const ReleaseRow release = sample_release("1.4.2", ReleaseState::good);
  must(log.journal.record(std::vector{sample_event()}, &closed, &release));
  EXPECT_EQ(log.prune(minute(100)), 1);
  EXPECT_TRUE(must(log.journal.deployment(closed.trace_id)).has_value());
  EXPECT_EQ(must(log.journal.releases("shop")).size(), 1U);
}

TEST(Prune, A_late_event_of_the_past_takes_no_newer_ones_with_it) {
  Fixture log(3);
  record_events(log.journal, 1, -100);  // event 4, older than event 1
  EXPECT_EQ(log.prune(minute(0)), 0);
  EXPECT_EQ(log.prune(minute(2)), 2);
}

TEST(Prune, A_clock_that_was_wrong_once_does_not_keep_everything) {
  Fixture log(3);
  EventDraft wrong = sample_event();
  wrong.timestamp_us = base::wall_now_us() + 365LL * 24 * 3600 * 1'000'000;
  must(log.journal.record(std::vector{wrong}));
  record_events(log.journal, 3, 10);
  EXPECT_EQ(log.prune(minute(12)), 6);
  EXPECT_EQ(log.problem(), "");
}

TEST(Prune, Keeps_at_most_so_many) {
  Fixture log;
  EXPECT_EQ(log.prune(minute(0), 5), 15);
  EXPECT_EQ(all_events(log.journal).front().event_id, 16);
  EXPECT_EQ(log.problem(), "");
}

TEST(Prune, A_forged_checkpoint_is_found) {
  Fixture log;
  log.prune(minute(10));
  run_sql(log.root.path(), "DELETE FROM events WHERE event_id < 14");
  EXPECT_EQ(log.problem(),
            "event 14 is the first one, but the newest log.pruned ends with event 10");
}

TEST(Prune, A_head_from_before_is_a_note_once_its_event_is_gone) {
  Fixture log;
  const HeadProof old{3, all_events(log.journal)[2].hash};
  const HeadProof kept{12, all_events(log.journal)[11].hash};
  log.prune(minute(10));
  const VerifyReport report = must(log.journal.verify(old));
  EXPECT_EQ(report.problem, "");
  EXPECT_EQ(report.notes, std::vector<std::string>{
                              "event 3 has been pruned: nothing to compare the given head with"});
  EXPECT_TRUE(must(log.journal.verify(kept)).notes.empty());
}

}  // namespace
}  // namespace updagent::journal::testing
