#include "agent/journal/journal.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "tests/unit/journal/support.hpp"

namespace updagent::journal::testing {
namespace {

using base::Code;

const std::string kTrace = "4bf92f3577b34da6a3ce929d0e0e4736";

TEST(Journal, A_new_one_is_private_marked_as_ours_and_empty) {
  const TempDirectory root;
  Journal journal = open_journal(root.path() + "/state");
  const Paths paths = paths_in(root.path() + "/state");
  for (const char* suffix : {"", "-wal", "-shm"}) {
    struct stat about{};
    ASSERT_EQ(::stat((paths.database + suffix).c_str(), &about), 0) << suffix;
    EXPECT_EQ(about.st_mode & 07777U, 0600U) << suffix;
  }
  EXPECT_EQ(sql_text(paths.database, "PRAGMA application_id; PRAGMA journal_mode"),
            "1431323713\nwal\n");
  EXPECT_EQ(must(journal.head()).count, 0);
  EXPECT_TRUE(must(journal.verify(std::nullopt)).problem.empty());
  EXPECT_EQ(std::filesystem::file_size(paths.reserve), kReserveBytes);
  EXPECT_TRUE(journal.take_warnings().empty());
}

TEST(Journal, A_wish_to_be_stopped_stays_until_it_is_taken_off_whoever_else_writes_the_row) {
  const TempDirectory root;
  AppRow row;
  row.app = "shop";
  row.stopped = true;
  row.stopped_by = "uid=0 login=kai";
  row.stopped_us = kBaseTimeUs;
  {
    Journal journal = open_journal(root.path());
    must(journal.wish_stopped(sample_event(), row));
    AppRow commit;
    commit.app = "shop";
    commit.high_water = "1.4.2";
    must(journal.record({}, nullptr, nullptr, &commit));
    AppRow held;
    held.app = "shop";
    held.held = true;
    must(journal.hold(sample_event(1), held));
  }
  Journal journal = open_journal(root.path());
  auto found = must(journal.app("shop"));
  ASSERT_TRUE(found);
  EXPECT_TRUE(found->stopped);
  EXPECT_EQ(found->stopped_by, "uid=0 login=kai");
  EXPECT_EQ(found->stopped_us, kBaseTimeUs);
  EXPECT_EQ(found->high_water, "1.4.2");
  EXPECT_TRUE(found->held);
  AppRow off;
  off.app = "shop";
  must(journal.wish_stopped(sample_event(2), off));
  found = must(journal.app("shop"));
  EXPECT_FALSE(found->stopped);
  EXPECT_EQ(found->stopped_by, "");
  EXPECT_TRUE(found->held);
  EXPECT_EQ(all_events(journal).size(), 3U);
}

TEST(Journal, Events_come_back_as_they_were_recorded) {
  const TempDirectory root;
  Journal journal = open_journal(root.path());
  const EventDraft draft = sample_event();
  must(journal.record(std::vector{draft, sample_event(1)}));
  const auto events = all_events(journal);
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(events[0].event_id, 1);
  EXPECT_EQ(events[0].node_name, "node-1");
  EXPECT_EQ(events[0].trace_id, draft.trace_id);
  EXPECT_EQ(events[0].span_id, draft.span_id);
  EXPECT_EQ(events[0].parent_span_id, draft.parent_span_id);
  EXPECT_EQ(events[0].app, draft.app);
  EXPECT_EQ(events[0].event, draft.event);
  EXPECT_EQ(events[0].stage, draft.stage);
  EXPECT_EQ(events[0].phase, draft.phase);
  EXPECT_EQ(events[0].status, draft.status);
  EXPECT_EQ(events[0].timestamp_us, draft.timestamp_us);
  EXPECT_EQ(events[0].duration_us, draft.duration_us);
  EXPECT_EQ(events[0].from_version, draft.from_version);
  EXPECT_EQ(events[0].to_version, draft.to_version);
  EXPECT_EQ(events[0].actor, draft.actor);
  EXPECT_EQ(events[0].detail, draft.detail);
  EXPECT_EQ(events[0].hash, base::sha256(canonical(events[0])));
  EXPECT_EQ(events[1].previous, events[0].hash);
}

TEST(Journal, An_event_without_a_time_gets_the_present) {
  const TempDirectory root;
  Journal journal = open_journal(root.path());
  EventDraft event = sample_event();
  event.timestamp_us = 0;
  const std::int64_t before = base::wall_now_us();
  must(journal.record(std::vector{event}));
  EXPECT_GE(all_events(journal)[0].timestamp_us, before);
}

TEST(Journal, The_head_file_follows_each_commit) {
  const TempDirectory root;
  Journal journal = open_journal(root.path());
  EXPECT_EQ(Json::parse(read_text(paths_in(root.path()).head))["count"], 0);
  record_events(journal, 3);
  const HeadProof head = must(journal.head());
  EXPECT_EQ(head.count, 3);
  const Json file = Json::parse(read_text(paths_in(root.path()).head));
  EXPECT_EQ(file["count"], 3);
  EXPECT_EQ(file["hash"], head.hash.hex());
}

TEST(Journal, Rows_are_stored_beside_the_events_and_come_back) {
  const TempDirectory root;
  Journal journal = open_journal(root.path());
  const DeploymentRow row = sample_deployment(kTrace);
  const ReleaseRow release = sample_release("1.4.2", ReleaseState::good);
  const AppRow app{"shop", "1.4.2", "1.4.1", true, "kai", kBaseTimeUs, false, "", 0};
  must(journal.record(std::vector{sample_event()}, &row, &release, &app));

  const auto found = must(journal.open_deployment("shop"));
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->trace_id, row.trace_id);
  EXPECT_EQ(found->root_span_id, row.root_span_id);
  EXPECT_EQ(found->kind, row.kind);
  EXPECT_EQ(found->to_digest, row.to_digest);
  EXPECT_EQ(found->source, row.source);
  EXPECT_EQ(found->state, row.state);
  EXPECT_TRUE(found->pre_upgrade_ran);
  EXPECT_EQ(found->driver_pid, row.driver_pid);
  EXPECT_EQ(found->boot_id, row.boot_id);
  EXPECT_EQ(found->bytes_reused, row.bytes_reused);
  EXPECT_EQ(must(journal.apps_with_open_deployment()), std::vector<std::string>{"shop"});

  const auto releases = must(journal.releases("shop"));
  ASSERT_EQ(releases.size(), 1U);
  EXPECT_EQ(releases[0].version, "1.4.2");
  EXPECT_EQ(releases[0].state, ReleaseState::good);
  EXPECT_EQ(releases[0].size_bytes, 4096U);
  EXPECT_FALSE(releases[0].removed);

  const auto stored_app = must(journal.app("shop"));
  ASSERT_TRUE(stored_app.has_value());
  EXPECT_EQ(stored_app->high_water, "1.4.2");
  EXPECT_EQ(stored_app->previous, "1.4.1");
  EXPECT_TRUE(stored_app->held);
  EXPECT_EQ(stored_app->held_by, "kai");
  EXPECT_EQ(must(journal.apps()), std::vector<std::string>{"shop"});
  EXPECT_FALSE(must(journal.app("none")).has_value());
}

TEST(Journal, A_release_row_is_replaced_by_its_next_state) {
  const TempDirectory root;
  Journal journal = open_journal(root.path());
  ReleaseRow release = sample_release("1.4.2", ReleaseState::staged);
  must(journal.record({}, nullptr, &release));
  release.state = ReleaseState::failed;
  release.removed = true;
  must(journal.record({}, nullptr, &release));
  const auto releases = must(journal.releases("shop"));
  ASSERT_EQ(releases.size(), 1U);
  EXPECT_EQ(releases[0].state, ReleaseState::failed);
  EXPECT_TRUE(releases[0].removed);
}

TEST(Journal, A_closed_deployment_is_never_opened_again) {
  const TempDirectory root;
  Journal journal = open_journal(root.path());
  const DeploymentRow closed = sample_deployment(kTrace, "rolled_back");
  must(journal.record({}, &closed));
  const DeploymentRow open = sample_deployment(kTrace);
  must(journal.record({}, &open));
  EXPECT_FALSE(must(journal.open_deployment("shop")).has_value());
  EXPECT_EQ(must(journal.deployment(kTrace))->outcome, "rolled_back");
}

TEST(Journal, A_deployment_whose_outcome_is_decided_is_open_until_it_is_closed) {
  const TempDirectory root;
  Journal journal = open_journal(root.path());
  DeploymentRow row = sample_deployment(kTrace, "rolled_back");
  row.state = "cleanup";
  must(journal.record({}, &row));
  EXPECT_TRUE(must(journal.open_deployment("shop")).has_value());
  EXPECT_EQ(must(journal.apps_with_open_deployment()).size(), 1U);
  row.state = kClosedState;
  must(journal.record({}, &row));
  EXPECT_FALSE(must(journal.open_deployment("shop")).has_value());
  EXPECT_TRUE(must(journal.apps_with_open_deployment()).empty());
}

TEST(Journal, A_deployment_is_found_by_a_unique_prefix_of_its_trace) {
  const TempDirectory root;
  Journal journal = open_journal(root.path());
  const DeploymentRow first = sample_deployment("abcdef00000000000000000000000001", "committed");
  const DeploymentRow second = sample_deployment("abcdef00000000000000000000000002", "committed");
  must(journal.record({}, &first));
  must(journal.record({}, &second));
  EXPECT_EQ(must(journal.deployment(second.trace_id))->trace_id, second.trace_id);
  EXPECT_FALSE(must(journal.deployment("fffffff")).has_value());

  const auto ambiguous = journal.deployment("abcdef");
  ASSERT_FALSE(ambiguous.has_value());
  EXPECT_EQ(ambiguous.error().code(), Code::usage);
  EXPECT_EQ(ambiguous.error().got(), first.trace_id + ", " + second.trace_id);

  const auto too_short = journal.deployment("abcde");
  ASSERT_FALSE(too_short.has_value());
  EXPECT_EQ(too_short.error().code(), Code::usage);
  EXPECT_EQ(too_short.error().expected(), "at least its first 6 digits, lower-case hexadecimal");
  EXPECT_EQ(too_short.error().got(), "'abcde'");
  EXPECT_FALSE(journal.deployment("ABCDEF").has_value());
}

TEST(Journal, Eight_processes_make_one_chain) {
  const TempDirectory root;
  constexpr int kProcesses = 8;
  constexpr int kEvents = 50;
  {
    std::vector<std::unique_ptr<Child>> children;
    for (int i = 0; i < kProcesses; ++i)
      children.push_back(std::make_unique<Child>(
          std::vector<std::string>{"record", root.path(), std::to_string(kEvents)}));
    for (auto& child : children) {
      std::string last;
      for (std::string line = child->read_line(); !line.empty(); line = child->read_line())
        last = line;
      EXPECT_EQ(last, std::to_string(kEvents));
      EXPECT_EQ(child->wait(), 0);
    }
  }
  Journal journal = open_journal(root.path());
  const VerifyReport report = must(journal.verify(std::nullopt));
  EXPECT_EQ(report.problem, "");
  EXPECT_EQ(report.events, kProcesses * kEvents);
  EXPECT_EQ(Json::parse(read_text(paths_in(root.path()).head))["count"], kProcesses * kEvents);
  EXPECT_TRUE(report.notes.empty());
}

TEST(Journal, A_lock_that_outlasts_the_limit_names_its_holder) {
  const TempDirectory root;
  open_journal(root.path());
  Child holder({"lock", root.path()});
  ASSERT_EQ(holder.read_line(), "locked");
  Journal journal = must(try_open(root.path(), Journal::Mode::read_write, base::Milliseconds(50)));
  const auto refused = journal.record(std::vector{sample_event()});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code(), Code::journal_unusable);
  EXPECT_NE(refused.error().message().find("is locked by process " + std::to_string(holder.pid())),
            std::string::npos)
      << refused.error().line();
  journal.wait_at_most(base::Milliseconds(1));
  EXPECT_FALSE(journal.record(std::vector{sample_event()}).has_value());
  // readers don't wait for writers
  Journal reader = must(try_open(root.path(), Journal::Mode::read_only));
  EXPECT_EQ(all_events(reader).size(), 0U);
}

TEST(Journal, A_reader_can_not_write) {
  const TempDirectory root;
  open_journal(root.path());
  Journal reader = must(try_open(root.path(), Journal::Mode::read_only));
  const auto refused = reader.record(std::vector{sample_event()});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code(), Code::internal);
}

TEST(Journal, Where_there_is_none_a_reader_says_so_and_makes_nothing) {
  const TempDirectory root;
  const auto missing = try_open(root.path(), Journal::Mode::read_only);
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code(), Code::not_found);
  EXPECT_TRUE(std::filesystem::is_empty(root.path()));
  // its maker has made the file and not yet the tables
  write_text(paths_in(root.path()).database, "");
  const auto unfinished = try_open(root.path(), Journal::Mode::read_only);
  ASSERT_FALSE(unfinished.has_value());
  EXPECT_EQ(unfinished.error().code(), Code::not_found);
}

TEST(Journal, A_head_that_can_not_be_written_is_a_warning_and_is_made_up_for) {
  const TempDirectory root;
  const Paths paths = paths_in(root.path());
  Journal journal = open_journal(root.path());
  record_events(journal, 1);
  // a directory in the way of its lock
  std::filesystem::remove(paths.head + ".lock");
  std::filesystem::create_directory(paths.head + ".lock");
  record_events(journal, 1, 1);
  const auto warnings = journal.take_warnings();
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_NE(warnings[0].find("audit.head.lock"), std::string::npos) << warnings[0];
  EXPECT_TRUE(journal.take_warnings().empty());
  const VerifyReport behind = must(journal.verify(std::nullopt));
  EXPECT_EQ(behind.problem, "");
  EXPECT_EQ(behind.notes, std::vector<std::string>{
                              "audit.head is at event 1 of 2: the next event brings it along"});

  std::filesystem::remove(paths.head + ".lock");
  record_events(journal, 1, 2);
  EXPECT_TRUE(must(journal.verify(std::nullopt)).notes.empty());
}

TEST(Journal, A_head_that_contradicts_the_database_stays_as_evidence) {
  const TempDirectory root;
  const Paths paths = paths_in(root.path());
  Journal journal = open_journal(root.path());
  record_events(journal, 3);
  const std::string evidence = read_text(paths.head);
  run_sql(root.path(), "DELETE FROM events WHERE event_id > 1");
  record_events(journal, 5, 10);  // past the old end
  EXPECT_EQ(read_text(paths.head), evidence);
  const auto warnings = journal.take_warnings();
  ASSERT_FALSE(warnings.empty());
  EXPECT_NE(warnings[0].find("it stays as evidence"), std::string::npos) << warnings[0];
  EXPECT_EQ(must(journal.verify(std::nullopt)).problem,
            "event 3: its hash is not the one in audit.head");
}

TEST(Journal, A_database_that_was_moved_away_takes_no_more_events) {
  const TempDirectory root;
  Journal journal = open_journal(root.path());
  record_events(journal, 1);
  const std::string aside = must(set_damaged_aside(paths_in(root.path()))).path;
  EXPECT_TRUE(std::filesystem::exists(aside));
  const auto refused = journal.record(std::vector{sample_event()});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code(), Code::journal_unusable);
}

}  // namespace
}  // namespace updagent::journal::testing
