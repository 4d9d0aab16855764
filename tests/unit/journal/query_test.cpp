#include <gtest/gtest.h>

#include "agent/journal/queries.hpp"
#include "agent/journal/sqlite.hpp"
#include "tests/unit/journal/support.hpp"

namespace updagent::journal::testing {
namespace {

using base::Code;

const std::string kOther = "abcdef00000000000000000000000001";

std::int64_t minute(std::int64_t number) {
  return kBaseTimeUs + number * 60'000'000;
}

// 200 events, one a minute: every second one of app web, every tenth a failure, stage by thirds.
struct Fixture {
  TempDirectory root;
  Journal journal = open_journal(root.path());
  Fixture() {
    std::vector<EventDraft> events;
    for (int i = 0; i < 200; ++i) {
      EventDraft event = sample_event(i);
      if (i % 2 == 1) event.app = "web";
      if (i % 10 == 0) event.status = "failure";
      event.stage = i % 3 == 0 ? "fetch" : i % 3 == 1 ? "verify" : "stage";
      if (i >= 190) event.trace_id = kOther;
      events.push_back(event);
    }
    must(journal.record(events));
  }
  std::vector<std::int64_t> ids(const LogFilter& filter) {
    std::vector<std::int64_t> found;
    must(journal.query(filter, [&found](const Event& event) {
      found.push_back(event.event_id);
      return true;
    }));
    return found;
  }
};

LogFilter everything() {
  LogFilter filter;
  filter.limit = 0;
  return filter;
}

TEST(Query, Without_a_filter_gives_the_newest_fifty_oldest_first) {
  Fixture log;
  const auto ids = log.ids(LogFilter{});
  ASSERT_EQ(ids.size(), 50U);
  EXPECT_EQ(ids.front(), 151);
  EXPECT_EQ(ids.back(), 200);
  EXPECT_TRUE(std::is_sorted(ids.begin(), ids.end()));
}

TEST(Query, Without_a_limit_gives_all_across_pages) {
  Fixture log;
  const auto ids = log.ids(everything());
  ASSERT_EQ(ids.size(), 200U);
  EXPECT_EQ(ids.front(), 1);
  EXPECT_EQ(ids.back(), 200);
}

TEST(Query, Filters_by_each_and_by_all) {
  Fixture log;
  LogFilter filter = everything();
  filter.app = "web";
  EXPECT_EQ(log.ids(filter).size(), 100U);
  filter.app = "shop";
  filter.status = "failure";
  EXPECT_EQ(log.ids(filter).size(), 20U);
  filter.stage = "fetch";
  EXPECT_EQ(log.ids(filter), (std::vector<std::int64_t>{1, 31, 61, 91, 121, 151, 181}));
  filter.since_us = minute(30);
  filter.until_us = minute(120);
  EXPECT_EQ(log.ids(filter), (std::vector<std::int64_t>{31, 61, 91, 121}));
  filter.limit = 2;
  EXPECT_EQ(log.ids(filter), (std::vector<std::int64_t>{91, 121}));
  filter = everything();
  filter.app = "none";
  EXPECT_TRUE(log.ids(filter).empty());
}

TEST(Query, A_trace_may_be_a_prefix_that_fits_one) {
  Fixture log;
  LogFilter filter = everything();
  filter.trace = "abcdef";
  EXPECT_EQ(log.ids(filter).size(), 10U);
  filter.trace = kOther;
  EXPECT_EQ(log.ids(filter).size(), 10U);

  const auto ask = [&log](const std::string& trace) {
    LogFilter asked = everything();
    asked.trace = trace;
    return log.journal.query(asked, [](const Event&) { return true; });
  };
  EXPECT_EQ(ask("123456").error().code(), Code::not_found);
  EXPECT_EQ(ask("abc").error().code(), Code::usage);
  EXPECT_EQ(ask("abc").error().got(), "'abc'");
  EventDraft twin = sample_event();
  twin.trace_id = "abcdef00000000000000000000000002";
  must(log.journal.record(std::vector{twin}));
  EXPECT_EQ(ask("abcdef").error().code(), Code::usage);
}

TEST(Query, A_late_event_stands_in_its_place_in_time) {
  Fixture log;
  EventDraft late = sample_event(100);
  late.timestamp_us += 1;
  must(log.journal.record(std::vector{late}));
  LogFilter filter = everything();
  filter.since_us = minute(99);
  filter.until_us = minute(102);
  EXPECT_EQ(log.ids(filter), (std::vector<std::int64_t>{100, 101, 201, 102, 103}));
}

TEST(Query, Events_of_the_same_time_are_neither_lost_nor_doubled_between_pages) {
  const TempDirectory root;
  Journal journal = open_journal(root.path());
  const std::vector<EventDraft> same(300, sample_event());
  must(journal.record(same));
  EXPECT_EQ(all_events(journal).size(), 300U);
  LogFilter filter;
  filter.limit = 130;
  std::vector<std::int64_t> ids;
  must(journal.query(filter, [&ids](const Event& event) {
    ids.push_back(event.event_id);
    return true;
  }));
  ASSERT_EQ(ids.size(), 130U);
  EXPECT_EQ(ids.front(), 171);
}

TEST(Query, Stops_when_told_and_leaves_no_view_open) {
  Fixture log;
  int seen = 0;
  must(log.journal.query(everything(), [&](const Event&) {
    // a writer in the middle of a query: its event is not part of the answer
    if (seen == 0) must(log.journal.record(std::vector{sample_event(500)}));
    return ++seen < 150;
  }));
  EXPECT_EQ(seen, 150);
  EXPECT_EQ(all_events(log.journal).size(), 201U);
}

TEST(Query, A_detail_that_was_tampered_with_is_shown_and_does_not_stop_it) {
  Fixture log;
  run_sql(log.root.path(),
          "UPDATE events SET detail = '{not json', actor = CAST(x'ff41' AS TEXT)"
          " WHERE event_id = 200");
  const Event last = all_events(log.journal).back();
  EXPECT_EQ(last.detail, Json({{"unreadable", "{not json"}}));
  EXPECT_EQ(last.actor,
            "\xEF\xBF\xBD"
            "A");
  EXPECT_FALSE(to_json(last).dump().empty());
}

std::string plan_of(Database& database, const Query& query) {
  Statement explain = must(database.prepare("EXPLAIN QUERY PLAN " + query.sql));
  std::string plan;
  while (must(explain.next())) plan += explain.text(3) + "\n";
  return plan;
}

TEST(Query, Every_filter_is_served_by_an_index_in_printing_order) {
  const TempDirectory root;
  open_journal(root.path());
  Database database = must(Database::open(paths_in(root.path()).database,
                                          Database::Access::read_only, base::Milliseconds(200)));
  for (unsigned bits = 0; bits < 64; ++bits) {
    LogFilter filter;
    if ((bits & 1U) != 0) filter.app = "shop";
    if ((bits & 2U) != 0) filter.trace = kOther;
    if ((bits & 4U) != 0) filter.stage = "fetch";
    if ((bits & 8U) != 0) filter.status = (bits & 1U) != 0 ? "failure" : "success";
    if ((bits & 16U) != 0) filter.since_us = minute(1);
    if ((bits & 32U) != 0) filter.until_us = minute(2);
    for (const Query& query :
         {oldest_of_newest(filter, 1'000'000), next_page(filter, {minute(1), 5}, 1'000'000, 64)}) {
      const std::string plan = plan_of(database, query);
      EXPECT_EQ(plan.find("TEMP B-TREE"), std::string::npos) << query.sql << "\n" << plan;
      EXPECT_TRUE(plan.starts_with("SEARCH events USING ") &&
                  plan.find("INDEX events_by_") != std::string::npos)
          << query.sql << "\n"
          << plan;
    }
    const std::string plan = plan_of(database, oldest_of_newest(filter, 1'000'000));
    EXPECT_TRUE(filter.trace.empty() || plan.find("events_by_trace") != std::string::npos) << plan;
  }
}

}  // namespace
}  // namespace updagent::journal::testing
