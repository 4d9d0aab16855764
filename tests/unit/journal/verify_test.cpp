#include <gtest/gtest.h>

#include <filesystem>

#include "agent/journal/canonical.hpp"
#include "agent/journal/sqlite.hpp"
#include "tests/unit/journal/support.hpp"

namespace updagent::journal::testing {
namespace {

struct Fixture {
  TempDirectory root;
  Journal journal = open_journal(root.path());
  HeadProof head;
  explicit Fixture(int events = 20) {
    record_events(journal, events);
    head = must(journal.head());
  }
  std::string problem_after(const std::string& sql) {
    run_sql(root.path(), sql);
    return must(journal.verify(std::nullopt)).problem;
  }
  std::string head_path() const { return paths_in(root.path()).head; }
};

TEST(Verify, An_untouched_log_is_intact) {
  Fixture log;
  const VerifyReport report = must(log.journal.verify(log.head));
  EXPECT_EQ(report.problem, "");
  EXPECT_TRUE(report.notes.empty());
  EXPECT_EQ(report.events, 20);
  EXPECT_EQ(report.first_event, 1);
  EXPECT_EQ(report.head.count, 20);
  EXPECT_EQ(report.head.hash, log.head.hash);
}

TEST(Verify, An_edit_of_any_column_names_its_row) {
  for (const char* edit :
       {"trace_id = 'x'", "span_id = 'x'", "parent_span_id = 'x'", "node_name = 'x'", "app = 'x'",
        "event = 'x'", "stage = 'x'", "phase = 'x'", "status = 'failure'",
        "timestamp_us = timestamp_us + 1", "duration_us = 1", "from_version = 'x'",
        "to_version = 'x'", "actor = 'x'", "detail = '{}'", "detail = detail || ' '",
        "previous = zeroblob(32)", "hash = zeroblob(32)"}) {
    Fixture log;
    EXPECT_EQ(log.problem_after(std::string("UPDATE events SET ") + edit + " WHERE event_id = 17"),
              "event 17: its contents don't fit its hash")
        << edit;
  }
}

TEST(Verify, A_value_of_another_type_can_not_hide_a_row_from_the_filters) {
  Fixture log;
  EXPECT_EQ(log.problem_after("UPDATE events SET app = CAST(app AS BLOB) WHERE event_id = 17"),
            "event 17: a column has a type that updagent never writes");
}

TEST(Verify, A_removed_row_is_missing) {
  Fixture log;
  EXPECT_EQ(log.problem_after("DELETE FROM events WHERE event_id = 17"),
            "event 17 is missing: after event 16 comes event 18");
}

TEST(Verify, A_removed_beginning_needs_a_checkpoint) {
  Fixture log;
  EXPECT_EQ(log.problem_after("DELETE FROM events WHERE event_id < 4"),
            "event 4 is the first one, and no log.pruned says where the ones before it went");
}

// The attacker knows the canonical form: every row has the right hash of its own.
void rehash(const std::string& directory, std::int64_t event_id) {
  Database database = must(Database::open(paths_in(directory).database,
                                          Database::Access::read_write, base::Milliseconds(200)));
  Journal journal = must(try_open(directory, Journal::Mode::read_only));
  for (Event& event : all_events(journal)) {
    if (event.event_id != event_id) continue;
    Statement update = must(database.prepare("UPDATE events SET hash = ? WHERE event_id = ?"));
    update.bind(1, base::sha256(canonical(event)));
    update.bind(2, event_id);
    must(update.run());
  }
}

TEST(Verify, A_row_that_was_edited_and_hashed_again_breaks_the_link_to_the_next) {
  Fixture log;
  run_sql(log.root.path(), "UPDATE events SET status = 'failure' WHERE event_id = 17");
  rehash(log.root.path(), 17);
  EXPECT_EQ(must(log.journal.verify(std::nullopt)).problem,
            "event 18: it does not follow event 17: that one was replaced, or this one was put in");
}

TEST(Verify, A_row_that_was_put_in_does_not_follow) {
  Fixture log;
  run_sql(log.root.path(),
          "UPDATE events SET event_id = -event_id WHERE event_id > 17;"
          "UPDATE events SET event_id = 1 - event_id WHERE event_id < 0;"
          "INSERT INTO events SELECT 18, trace_id, span_id, parent_span_id, node_name, app, event,"
          " stage, phase, status, timestamp_us, duration_us, from_version, to_version, actor,"
          " detail, previous, hash FROM events WHERE event_id = 17");
  rehash(log.root.path(), 18);
  EXPECT_EQ(must(log.journal.verify(std::nullopt)).problem,
            "event 18: it does not follow event 17: that one was replaced, or this one was put in");
}

TEST(Verify, An_edited_last_row_that_was_hashed_again_differs_from_the_head) {
  Fixture log;
  run_sql(log.root.path(), "UPDATE events SET status = 'failure' WHERE event_id = 20");
  rehash(log.root.path(), 20);
  EXPECT_EQ(must(log.journal.verify(std::nullopt)).problem,
            "event 20: its hash is not the one in audit.head");
}

TEST(Verify, A_cut_off_end_shows_against_audit_head) {
  Fixture log;
  EXPECT_EQ(log.problem_after("DELETE FROM events WHERE event_id > 15"),
            "the log was cut off: audit.head names event 20, the last one is event 15");
}

TEST(Verify, A_cut_off_end_and_head_show_against_a_head_that_was_kept_elsewhere) {
  Fixture log;
  run_sql(log.root.path(), "DELETE FROM events WHERE event_id > 15");
  const HeadProof forged = must(log.journal.head());
  write_text(log.head_path(), Json{{"count", 15}, {"hash", forged.hash.hex()}}.dump());
  EXPECT_EQ(must(log.journal.verify(std::nullopt)).problem, "");
  EXPECT_EQ(must(log.journal.verify(log.head)).problem,
            "the log was cut off: the given head names event 20, the last one is event 15");
  EXPECT_EQ(must(log.journal.verify(HeadProof{9, base::sha256("other")})).problem,
            "event 9: its hash is not the one in the given head");
}

TEST(Verify, A_head_that_lags_is_a_note) {
  Fixture log;
  const std::string behind = read_text(log.head_path());
  record_events(log.journal, 2, 30);
  write_text(log.head_path(), behind);
  const VerifyReport report = must(log.journal.verify(std::nullopt));
  EXPECT_EQ(report.problem, "");
  EXPECT_EQ(report.notes, std::vector<std::string>{
                              "audit.head is at event 20 of 22: the next event brings it along"});
}

TEST(Verify, A_head_that_is_missing_or_makes_no_sense_is_a_finding) {
  Fixture log;
  std::filesystem::remove(log.head_path());
  EXPECT_EQ(must(log.journal.verify(std::nullopt)).problem,
            "audit.head is missing: the end of the log can't be checked");
  for (const char* content : {"", "{}", "[1]", "{\"count\":-1,\"hash\":\"\"}", "{\"count\":20}"}) {
    write_text(log.head_path(), content);
    const std::string problem = must(log.journal.verify(std::nullopt)).problem;
    EXPECT_NE(problem.find("can't be understood (expected {\"count\":N,"), std::string::npos)
        << problem;
  }
}

TEST(Verify, An_empty_log_is_intact) {
  Fixture log(0);
  const VerifyReport report = must(log.journal.verify(std::nullopt));
  EXPECT_EQ(report.problem, "");
  EXPECT_EQ(report.events, 0);
  EXPECT_EQ(must(log.journal.verify(HeadProof{3, base::sha256("x")})).problem,
            "the log was cut off: the given head names event 3, the last one is event 0");
}

TEST(Verify, An_index_that_lost_a_row_is_damage) {
  Fixture log;
  // without its triggers and checks: the index alone is emptied
  run_sql(log.root.path(),
          "PRAGMA writable_schema = ON;"
          "CREATE TABLE other (x); CREATE INDEX other_x ON other (x);"
          "UPDATE sqlite_master SET rootpage = (SELECT rootpage FROM sqlite_master WHERE name ="
          " 'other_x') WHERE name = 'events_by_app';");
  Journal again = must(try_open(log.root.path(), Journal::Mode::read_only));
  const std::string problem = must(again.verify(std::nullopt)).problem;
  EXPECT_TRUE(problem.starts_with("the database file is damaged: ")) << problem;
}

}  // namespace
}  // namespace updagent::journal::testing
