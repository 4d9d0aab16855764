// Files that are damaged, commits that fail, and writers that are killed.
#include <gtest/gtest.h>

#include <filesystem>
#include <random>

#include "tests/unit/journal/support.hpp"

namespace updagent::journal::testing {
namespace {

using base::Code;

constexpr const char* kRebuildHint =
    "updagent recover --rebuild makes a new one from the trees and keeps this one aside";

// Everything in the database file, nothing in the WAL: so damage to the file is what is read.
void fill(const std::string& root, int events) {
  {
    Journal journal = open_journal(root);
    record_events(journal, events);
  }
  run_sql(root, "PRAGMA wal_checkpoint(TRUNCATE)");
}

void overwrite(const std::string& path, std::size_t at, const std::string& bytes) {
  std::string content = read_text(path);
  ASSERT_LE(at + bytes.size(), content.size());
  content.replace(at, bytes.size(), bytes);
  write_text(path, content);
}

std::string random_text(std::mt19937& random, std::size_t count) {
  std::string text(count, '\0');
  for (char& c : text) c = static_cast<char>(random());
  return text;
}

// As a whole and by each of three indexes, so that a damaged index would show.
std::vector<base::Digest> hashes(Journal& journal) {
  std::vector<base::Digest> found;
  LogFilter filter;
  filter.limit = 0;
  const auto collect = [&] {
    must(journal.query(filter, [&found](const Event& event) {
      found.push_back(base::sha256(canonical(event)));
      return true;
    }));
  };
  collect();
  filter.app = "shop";
  collect();
  filter.stage = "fetch";
  collect();
  filter.trace = sample_event().trace_id;
  collect();
  return found;
}

std::vector<base::Digest> hashes_in(const std::string& root) {
  Journal journal = must(try_open(root, Journal::Mode::read_only));
  return hashes(journal);
}

TEST(Damage, Random_bytes_over_the_header_are_refused_with_the_way_out) {
  const TempDirectory root;
  fill(root.path(), 3);
  std::mt19937 random(1);
  overwrite(paths_in(root.path()).database, 0, random_text(random, 100));
  for (const auto mode : {Journal::Mode::read_write, Journal::Mode::read_only}) {
    const auto refused = try_open(root.path(), mode);
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code(), Code::journal_unusable);
    EXPECT_EQ(refused.error().hint(), kRebuildHint);
  }
}

TEST(Damage, Random_bytes_anywhere_are_an_error_or_a_finding_and_never_a_crash) {
  const TempDirectory root;
  fill(root.path(), 100);
  const std::string database = paths_in(root.path()).database;
  const std::string whole = read_text(database);
  const auto untouched = hashes_in(root.path());
  int found = 0;
  std::mt19937 random(2);
  for (int round = 0; round < 60; ++round) {
    write_text(database, whole);
    const std::size_t at = random() % (whole.size() - 600);
    overwrite(database, at, random_text(random, 600));
    auto journal = try_open(root.path(), Journal::Mode::read_only);
    if (!journal) {
      EXPECT_EQ(journal.error().code(), Code::journal_unusable) << journal.error().line();
      continue;
    }
    const auto report = journal->verify(std::nullopt);
    ASSERT_TRUE(report.has_value()) << report.error().line();
    if (!report->problem.empty()) {
      ++found;
    } else {  // it lies where nothing is stored
      EXPECT_EQ(hashes(*journal), untouched) << "round " << round << " at " << at;
    }
  }
  EXPECT_GT(found, 10);
}

TEST(Damage, A_database_that_was_cut_short_is_refused_or_found) {
  const TempDirectory root;
  fill(root.path(), 100);
  const std::string database = paths_in(root.path()).database;
  const std::string whole = read_text(database);
  for (std::size_t part = 1; part < 8; ++part) {
    write_text(database, whole.substr(0, whole.size() * part / 8));
    auto journal = try_open(root.path(), Journal::Mode::read_only);
    if (!journal) {
      EXPECT_EQ(journal.error().code(), Code::journal_unusable) << journal.error().line();
      continue;
    }
    EXPECT_NE(must(journal->verify(std::nullopt)).problem, "") << part;
  }
}

TEST(Damage, Events_that_vanish_with_a_truncated_wal_show_against_the_head) {
  const TempDirectory root;
  fill(root.path(), 3);
  {
    Child writer({"record", root.path(), "1000000"});
    for (int i = 0; i < 10; ++i) writer.read_line();
    writer.kill();
    writer.wait();
  }
  const std::string wal = paths_in(root.path()).database + "-wal";
  ASSERT_GT(std::filesystem::file_size(wal), 32U);
  std::filesystem::resize_file(wal, 32);  // its header alone
  std::filesystem::remove(paths_in(root.path()).database + "-shm");
  Journal journal = open_journal(root.path());
  const std::string problem = must(journal.verify(std::nullopt)).problem;
  EXPECT_TRUE(problem.starts_with("the log was cut off: audit.head names event 1")) << problem;
  EXPECT_TRUE(problem.ends_with("the last one is event 3")) << problem;
}

TEST(Damage, A_damaged_database_is_set_aside_with_all_that_belongs_to_it) {
  const TempDirectory root;
  fill(root.path(), 3);
  const Paths paths = paths_in(root.path());
  write_text(paths.database, "rubbish");
  const std::string aside = must(set_damaged_aside(paths)).path;
  EXPECT_TRUE(aside.starts_with(paths.database + ".damaged-2")) << aside;
  EXPECT_EQ(read_text(aside), "rubbish");
  EXPECT_TRUE(std::filesystem::exists(aside + "-wal"));
  EXPECT_FALSE(std::filesystem::exists(paths.database + "-wal"));
  EXPECT_FALSE(std::filesystem::exists(paths.head));
  EXPECT_EQ(must(set_damaged_aside(paths)).path, "");
  Journal journal = open_journal(root.path());
  record_events(journal, 1);
  EXPECT_EQ(must(journal.verify(std::nullopt)).problem, "");
}

TEST(Damage, A_commit_that_fails_is_an_error_and_leaves_nothing_behind) {
  if (!kFailpoints) GTEST_SKIP() << "built without failpoints";
  for (const auto& [injected, code] :
       {std::pair("EIO", "io_error"), std::pair("ENOSPC", "no_space")}) {
    const TempDirectory root;
    {
      Journal journal = open_journal(root.path());
      record_events(journal, 1);
    }
    Child child({"record", root.path(), "5"},
                {std::string("UPDAGENT_FAILPOINTS=sqlite.commit#3=") + injected});
    EXPECT_EQ(child.read_line(), "1");
    EXPECT_EQ(child.read_line(), "2");
    const std::string error = child.read_line();
    EXPECT_TRUE(error.starts_with(std::string(code) + ": cannot commit to the journal: ")) << error;
    EXPECT_EQ(child.wait(), 1);
    Journal journal = open_journal(root.path());
    const VerifyReport report = must(journal.verify(std::nullopt));
    EXPECT_EQ(report.events, 3);
    EXPECT_EQ(report.problem, "");
  }
}

TEST(Damage, A_head_that_fails_to_sync_does_not_fail_the_record) {
  if (!kFailpoints) GTEST_SKIP() << "built without failpoints";
  const TempDirectory root;
  {
    open_journal(root.path());
  }
  Child child({"record", root.path(), "3"}, {"UPDAGENT_FAILPOINTS=sys.fsync#0=EIO"});
  EXPECT_EQ(child.read_line(), "1");
  EXPECT_EQ(child.read_line(), "2");
  EXPECT_EQ(child.read_line(), "3");
  EXPECT_EQ(child.wait(), 0);
  Journal journal = open_journal(root.path());
  const VerifyReport report = must(journal.verify(std::nullopt));
  EXPECT_EQ(report.problem, "");
  EXPECT_EQ(report.notes.size(), 1U);
}

TEST(Damage, A_kill_before_the_commit_leaves_the_chain_as_it_was) {
  if (!kFailpoints) GTEST_SKIP() << "built without failpoints";
  const TempDirectory root;
  {
    open_journal(root.path());
  }
  Child child({"record", root.path(), "5"}, {"UPDAGENT_FAILPOINTS=sqlite.commit#3=kill"});
  EXPECT_EQ(child.wait(), -9);
  Journal journal = open_journal(root.path());
  EXPECT_EQ(must(journal.verify(std::nullopt)).events, 2);
}

TEST(Damage, Kill_9_at_any_moment_loses_no_event_that_was_acknowledged) {
  const TempDirectory root;
  std::mt19937 random(3);
  std::int64_t acknowledged = 0;
  for (int round = 0; round < 20; ++round) {
    Child writer({"record", root.path(), "1000000"});
    const unsigned long until = random() % 12;
    for (unsigned long i = 0; i < until; ++i)
      if (!writer.read_line().empty()) ++acknowledged;
    writer.kill();
    // what it had still said before it died
    while (!writer.read_line().empty()) ++acknowledged;
    EXPECT_EQ(writer.wait(), -9);
    if (!std::filesystem::exists(paths_in(root.path()).database)) continue;
    Journal journal = open_journal(root.path());
    const VerifyReport report = must(journal.verify(std::nullopt));
    EXPECT_EQ(report.problem, "") << "round " << round;
    EXPECT_GE(report.events, acknowledged);
    EXPECT_LE(report.events, acknowledged + round + 1);  // committed and not yet said
  }
  EXPECT_GT(acknowledged, 20);
}

}  // namespace
}  // namespace updagent::journal::testing
