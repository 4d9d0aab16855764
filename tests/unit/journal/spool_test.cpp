#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "agent/base/files.hpp"
#include "agent/journal/spool_format.hpp"
#include "tests/unit/journal/support.hpp"

namespace updagent::journal::testing {
namespace {

using base::Code;

const std::string kTrace = "4bf92f3577b34da6a3ce929d0e0e4736";

std::vector<std::string> waiting(const std::string& root) {
  return must(base::list_directory(paths_in(root).spool, 1000));
}

void spool_event(const std::string& root, std::int64_t minute,
                 const DeploymentRow* deployment = nullptr, const ReleaseRow* release = nullptr,
                 const AppRow* app = nullptr) {
  must(
      spool(paths_in(root), "node-1", std::vector{sample_event(minute)}, deployment, release, app));
}

TEST(Spool, What_waits_joins_the_chain_marked_late_when_the_journal_is_opened_next) {
  const TempDirectory root;
  {
    Journal journal = open_journal(root.path());
    record_events(journal, 2);
  }
  const DeploymentRow closed = sample_deployment(kTrace, "rolled_back");
  const ReleaseRow release = sample_release("1.4.2", ReleaseState::failed);
  const AppRow app{"shop", "1.4.1", "", false, "", 0, false, "", 0};
  spool_event(root.path(), 5, &closed, &release, &app);
  spool_event(root.path(), 6);
  struct stat about{};
  ASSERT_EQ(::stat(paths_in(root.path()).spool.c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 07777U, 0700U);
  EXPECT_EQ(waiting(root.path()).size(), 2U);

  Journal journal = open_journal(root.path());
  EXPECT_TRUE(journal.take_warnings().empty());
  EXPECT_TRUE(waiting(root.path()).empty());
  const VerifyReport report = must(journal.verify(std::nullopt));
  EXPECT_EQ(report.problem, "");
  EXPECT_EQ(report.events, 6);  // two, two late ones, and a note for each file
  LogFilter filter;
  filter.trace = kTrace;
  std::vector<Event> events;
  must(journal.query(filter, [&events](const Event& event) {
    events.push_back(event);
    return true;
  }));
  ASSERT_EQ(events.size(), 4U);
  EXPECT_FALSE(events[1].detail.contains("late"));
  EXPECT_EQ(events[2].detail["late"], true);
  EXPECT_EQ(events[2].timestamp_us, sample_event(5).timestamp_us);
  EXPECT_EQ(events[2].detail["bytes"], 1048576);
  EXPECT_EQ(must(journal.deployment(kTrace))->outcome, "rolled_back");
  EXPECT_EQ(must(journal.releases("shop"))[0].state, ReleaseState::failed);
  EXPECT_EQ(must(journal.app("shop"))->high_water, "1.4.1");
}

TEST(Spool, Rows_that_waited_never_replace_newer_ones) {
  const TempDirectory root;
  const DeploymentRow open = sample_deployment(kTrace);
  const ReleaseRow staged = sample_release("1.4.2", ReleaseState::staged);
  const AppRow before{"shop", "1.4.1", "", false, "", 0, false, "", 0};
  Journal driver = open_journal(root.path());
  spool_event(root.path(), 1, &open, &staged, &before);
  const DeploymentRow closed = sample_deployment(kTrace, "committed");
  const ReleaseRow good = sample_release("1.4.2", ReleaseState::good);
  const AppRow after{"shop", "1.4.2", "1.4.1", false, "", 0, false, "", 0};
  must(driver.record({}, &closed, &good, &after));

  Journal next = open_journal(root.path());
  EXPECT_EQ(must(next.deployment(kTrace))->outcome, "committed");
  EXPECT_EQ(must(next.releases("shop"))[0].state, ReleaseState::good);
  EXPECT_EQ(must(next.app("shop"))->high_water, "1.4.2");
}

TEST(Spool, The_end_of_a_deployment_counts_even_if_its_driver_wrote_later) {
  const TempDirectory root;
  Journal driver = open_journal(root.path());
  const DeploymentRow closed = sample_deployment(kTrace, "rolled_back");
  spool_event(root.path(), 1, &closed);
  const DeploymentRow open = sample_deployment(kTrace);
  must(driver.record({}, &open));
  Journal next = open_journal(root.path());
  EXPECT_EQ(must(next.deployment(kTrace))->outcome, "rolled_back");
}

TEST(Spool, A_kill_between_commit_and_removal_imports_nothing_twice) {
  const TempDirectory root;
  open_journal(root.path());
  spool_event(root.path(), 1);
  const std::string name = waiting(root.path()).at(0);
  const std::string content = read_text(paths_in(root.path()).spool + "/" + name);
  {
    open_journal(root.path());
  }
  // as if it had not been removed
  write_text(paths_in(root.path()).spool + "/" + name, content);
  Journal journal = open_journal(root.path());
  EXPECT_EQ(must(journal.verify(std::nullopt)).events, 2);
  EXPECT_TRUE(waiting(root.path()).empty());
}

TEST(Spool, A_kill_before_the_commit_loses_nothing) {
  if (!kFailpoints) GTEST_SKIP() << "built without failpoints";
  const TempDirectory root;
  open_journal(root.path());
  spool_event(root.path(), 1);
  Child killed({"import", root.path()}, {"UPDAGENT_FAILPOINTS=sqlite.commit=kill"});
  EXPECT_EQ(killed.wait(), -9);
  EXPECT_EQ(waiting(root.path()).size(), 1U);
  Journal journal = open_journal(root.path());
  EXPECT_EQ(must(journal.verify(std::nullopt)).events, 2);
}

TEST(Spool, Names_of_removed_files_are_forgotten) {
  const TempDirectory root;
  for (int i = 0; i < 5; ++i) {
    spool_event(root.path(), i);
    open_journal(root.path());
  }
  EXPECT_EQ(sql_text(paths_in(root.path()).database, "SELECT count(*) FROM spool_imports"), "1\n");
}

TEST(Spool, An_event_that_was_stored_although_its_commit_failed_is_not_doubled) {
  const TempDirectory root;
  {
    Journal journal = open_journal(root.path());
    record_events(journal, 1);
  }
  spool_event(root.path(), 0);
  Journal journal = open_journal(root.path());
  const auto events = all_events(journal);
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(events[1].event, "log.imported");
  EXPECT_EQ(events[1].detail["events"], 0);
}

TEST(Spool, A_torn_last_line_and_rubbish_are_skipped_and_noted) {
  const TempDirectory root;
  open_journal(root.path());
  spool_event(root.path(), 1);
  const std::string path = paths_in(root.path()).spool + "/" + waiting(root.path()).at(0);
  const std::string whole = read_text(path);
  write_text(path, whole + "not json\n{\"event\":{}}\n{\"unknown\":{}}\n" +
                       whole.substr(0, whole.size() / 2));
  Journal journal = open_journal(root.path());
  LogFilter filter;
  filter.status = "failure";
  std::vector<Event> notes;
  must(journal.query(filter, [&notes](const Event& event) {
    notes.push_back(event);
    return true;
  }));
  ASSERT_EQ(notes.size(), 1U);
  EXPECT_EQ(notes[0].event, "log.imported");
  EXPECT_EQ(notes[0].detail["events"], 1);
  EXPECT_EQ(notes[0].detail["skipped_lines"], 4);
  EXPECT_EQ(notes[0].actor, "journal");
  EXPECT_EQ(must(journal.verify(std::nullopt)).problem, "");
}

TEST(Spool, Several_processes_import_each_file_once) {
  const TempDirectory root;
  open_journal(root.path());
  for (int i = 0; i < 20; ++i) spool_event(root.path(), i);
  {
    std::vector<std::unique_ptr<Child>> children;
    for (int i = 0; i < 4; ++i)
      children.push_back(std::make_unique<Child>(std::vector<std::string>{"import", root.path()}));
    for (auto& child : children) {
      EXPECT_EQ(child->read_line(), "");
      EXPECT_EQ(child->wait(), 0);
    }
  }
  Journal journal = open_journal(root.path());
  EXPECT_EQ(must(journal.verify(std::nullopt)).events, 40);
}

TEST(Spool, Is_bounded) {
  const TempDirectory root;
  spool_event(root.path(), 1);
  // sparse: only its length counts
  write_text(paths_in(root.path()).spool + "/1.jsonl", "");
  std::filesystem::resize_file(paths_in(root.path()).spool + "/1.jsonl", kMaxSpoolBytes);
  const auto refused = spool(paths_in(root.path()), "node-1", std::vector{sample_event()}, nullptr,
                             nullptr, nullptr);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code(), Code::no_space);
  EXPECT_EQ(refused.error().expected(), "at most 16.0 MiB of events that wait");
  EXPECT_EQ(refused.error().got(), "16.0 MiB");
}

TEST(Spool, Keeps_the_name_of_the_node_that_wrote) {
  const TempDirectory root;
  must(spool(paths_in(root.path()), "old-name", std::vector{sample_event()}, nullptr, nullptr,
             nullptr));
  Journal journal = open_journal(root.path());
  EXPECT_EQ(all_events(journal)[0].node_name, "old-name");
}

TEST(Spool, Its_format_gives_back_every_field) {
  const EventDraft event = sample_event(3);
  const DeploymentRow deployment = sample_deployment(kTrace, "rolled_back");
  const ReleaseRow release = sample_release("1.4.2", ReleaseState::good);
  const AppRow app{"shop", "1.4.2", "1.4.1", true, "kai", 7, false, "", 0};
  const std::string text =
      spool_lines({"node-1", 9}, std::vector{event}, {&deployment, &release, &app});
  const SpoolContent content = parse_spool(text);
  EXPECT_EQ(content.skipped, 0);
  ASSERT_TRUE(content.deployment && content.release && content.app);
  EXPECT_EQ(spool_lines(content.header, content.events,
                        {&*content.deployment, &*content.release, &*content.app}),
            text);
  EXPECT_EQ(content.deployment->bytes_reused, 7);
  EXPECT_EQ(content.release->size_bytes, 4096U);
}

}  // namespace
}  // namespace updagent::journal::testing
