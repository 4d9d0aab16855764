#include <gtest/gtest.h>

#include <filesystem>

#include "agent/journal/migrations.hpp"
#include "schema/embedded.hpp"
#include "tests/unit/journal/support.hpp"

namespace updagent::journal::testing {
namespace {

using base::Code;

// Tables and indexes as SQLite keeps them, blanks apart: a later ALTER TABLE prints its own.
std::string schema_of(const std::string& database) {
  const std::string text =
      sql_text(database,
               "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name;"
               "SELECT min_writer FROM schema_info");
  std::string dense;
  for (const char c : text)
    if (c != ' ' && c != '\n') dense += c;
  return dense;
}

TEST(Migrations, Their_sum_is_schema_sql) {
  const TempDirectory root;
  open_journal(root.path());
  const std::string direct = root.path() + "/direct.db";
  sql_text(direct, read_text(UPDAGENT_SOURCE_DIR "/schema/schema.sql"));
  EXPECT_EQ(schema_of(paths_in(root.path()).database), schema_of(direct));
}

TEST(Migrations, Are_numbered_without_gaps_and_end_at_our_version) {
  int expected = 0;
  for (const schema::Migration& migration : schema::migrations())
    EXPECT_EQ(migration.version, ++expected) << migration.name;
  EXPECT_EQ(own_schema_version(), expected);
}

// What an update of updagent leaves until something writes: the first reader brings it up to date.
TEST(Migrations, A_reader_brings_an_older_database_up_to_date) {
  const TempDirectory root;
  open_journal(root.path());
  run_sql(root.path(),
          "PRAGMA user_version = 2; ALTER TABLE apps DROP COLUMN stopped;"
          "ALTER TABLE apps DROP COLUMN stopped_by; ALTER TABLE apps DROP COLUMN stopped_us");
  auto reader = try_open(root.path(), Journal::Mode::read_only);
  ASSERT_TRUE(reader.has_value());
  EXPECT_FALSE(must(reader->app("shop")).has_value());
}

TEST(Migrations, A_newer_database_that_allows_us_is_written) {
  const TempDirectory root;
  open_journal(root.path());
  run_sql(root.path(),
          "PRAGMA user_version = 99; ALTER TABLE events ADD COLUMN later TEXT;"
          "ALTER TABLE deployments ADD COLUMN later INTEGER NOT NULL DEFAULT 3");
  Journal journal = open_journal(root.path());
  const DeploymentRow row = sample_deployment(std::string(32, 'a'), "rolled_back");
  must(journal.record(std::vector{sample_event()}, &row));
  EXPECT_EQ(must(journal.verify(std::nullopt)).problem, "");
  EXPECT_EQ(sql_text(paths_in(root.path()).database, "PRAGMA user_version"), "99\n");
}

TEST(Migrations, A_newer_database_that_forbids_it_is_only_read) {
  const TempDirectory root;
  {
    Journal journal = open_journal(root.path());
    record_events(journal, 2);
  }
  run_sql(root.path(), "PRAGMA user_version = 99; UPDATE schema_info SET min_writer = 98");
  const auto refused = try_open(root.path(), Journal::Mode::read_write);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code(), Code::journal_unusable);
  EXPECT_EQ(refused.error().expected(),
            "a schema that version " + std::to_string(own_schema_version()) + " may write");
  EXPECT_EQ(refused.error().got(), "version 99, from 98 on");
  Journal reader = must(try_open(root.path(), Journal::Mode::read_only));
  EXPECT_EQ(all_events(reader).size(), 2U);
  EXPECT_EQ(must(reader.verify(std::nullopt)).problem, "");
}

TEST(Migrations, The_database_of_another_program_is_refused_and_left_alone) {
  const TempDirectory root;
  const std::string database = paths_in(root.path()).database;
  sql_text(database, "CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)");
  const std::string before = read_text(database);
  for (const auto mode : {Journal::Mode::read_write, Journal::Mode::read_only}) {
    const auto refused = try_open(root.path(), mode);
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code(), Code::journal_unusable);
    EXPECT_EQ(refused.error().expected(), "application id 1431323713");
    EXPECT_EQ(refused.error().got(), "0");
  }
  EXPECT_EQ(read_text(database), before);
  sql_text(database, "PRAGMA application_id = 7");
  EXPECT_EQ(try_open(root.path(), Journal::Mode::read_write).error().got(), "7");
}

TEST(Migrations, A_crash_between_file_and_tables_is_finished_by_the_next_one) {
  if (!kFailpoints) GTEST_SKIP() << "built without failpoints";
  const TempDirectory root;
  {
    Child killed({"record", root.path(), "1"}, {"UPDAGENT_FAILPOINTS=sqlite.commit=kill"});
    EXPECT_EQ(killed.read_line(), "");
    EXPECT_EQ(killed.wait(), -9);
  }
  EXPECT_TRUE(std::filesystem::exists(paths_in(root.path()).database));
  Journal journal = open_journal(root.path());
  record_events(journal, 1);
  EXPECT_EQ(must(journal.verify(std::nullopt)).problem, "");
}

}  // namespace
}  // namespace updagent::journal::testing
