#include "agent/journal/event.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "agent/base/text.hpp"
#include "agent/journal/event_bounds.hpp"
#include "tests/unit/journal/support.hpp"

namespace updagent::journal::testing {
namespace {

Event sample() {
  return Event{sample_event(), 7, "node-1", base::sha256("before"), {}};
}

TEST(Event, Canonical_form_is_what_a_json_library_prints_with_sorted_keys) {
  const Event event = sample();
  const Json parsed = Json::parse(canonical(event));
  EXPECT_EQ(parsed.dump(), canonical(event));
  EXPECT_EQ(parsed.size(), 17U);
  EXPECT_EQ(parsed["previous"], event.previous.hex());
  EXPECT_EQ(parsed["timestamp_us"], event.timestamp_us);
  EXPECT_FALSE(parsed.contains("hash"));
}

TEST(Event, Every_field_is_in_the_canonical_form) {
  const std::string before = canonical(sample());
  const std::vector<std::function<void(Event&)>> changes = {
      [](Event& e) { e.trace_id[0] = '0'; },
      [](Event& e) { e.span_id[0] = '1'; },
      [](Event& e) { e.parent_span_id[0] = '1'; },
      [](Event& e) { e.app = "shoq"; },
      [](Event& e) { e.event = "x"; },
      [](Event& e) { e.stage = "x"; },
      [](Event& e) { e.phase = "x"; },
      [](Event& e) { e.status = "x"; },
      [](Event& e) { ++e.timestamp_us; },
      [](Event& e) { ++e.duration_us; },
      [](Event& e) { e.from_version = "x"; },
      [](Event& e) { e.to_version = "x"; },
      [](Event& e) { e.actor = "x"; },
      [](Event& e) { e.detail["bytes"] = 1; },
      [](Event& e) { ++e.event_id; },
      [](Event& e) { e.node_name = "x"; },
      [](Event& e) { e.previous.bytes[31] ^= 1; },
  };
  for (std::size_t i = 0; i < changes.size(); ++i) {
    Event changed = sample();
    changes[i](changed);
    EXPECT_NE(canonical(changed), before) << "change " << i;
  }
}

TEST(Event, Json_has_the_names_of_the_design) {
  Json json = to_json(sample());
  EXPECT_EQ(json["timestamp"], "2025-10-09T08:53:20.000000Z");
  EXPECT_EQ(json["duration_ms"].dump(), "1234.567");
  EXPECT_EQ(json["event_id"], 7);
  for (const char* name : {"trace_id", "span_id", "node_name", "app", "stage", "phase", "status",
                           "from_version", "to_version", "actor", "detail"})
    EXPECT_TRUE(json.contains(name)) << name;
  Event unmeasured = sample();
  unmeasured.duration_us = -1;
  EXPECT_TRUE(to_json(unmeasured)["duration_ms"].is_null());
}

TEST(Event, Ids_have_the_lengths_of_trace_context_and_differ) {
  EXPECT_EQ(new_trace_id().size(), 32U);
  EXPECT_EQ(new_span_id().size(), 16U);
  EXPECT_NE(new_trace_id(), new_trace_id());
  EXPECT_NE(new_span_id(), new_span_id());
  EXPECT_TRUE(base::from_hex(new_trace_id()).has_value());
}

TEST(EventBounds, A_detail_that_is_too_long_loses_the_ends_of_its_longest_strings) {
  EventDraft event = sample_event();
  event.detail = {{"output", std::string(2 * kMaxDetailBytes, 'x')},
                  {"error", std::string(2 * kMaxDetailBytes, '\x1b')},
                  {"exit_status", 3},
                  {"note", "kept"}};
  const EventDraft cut = bounded(event);
  EXPECT_LE(cut.detail.dump().size(), kMaxDetailBytes);
  EXPECT_GT(cut.detail.dump().size(), kMaxDetailBytes * 9 / 10);
  EXPECT_EQ(cut.detail["truncated"], true);
  EXPECT_EQ(cut.detail["note"], "kept");
  EXPECT_EQ(cut.detail["exit_status"], 3);
  EXPECT_TRUE(cut.detail["output"].get<std::string>().ends_with("…"));
}

TEST(EventBounds, A_detail_of_too_many_keys_is_left_out) {
  EventDraft event = sample_event();
  for (int i = 0; i < 50'000; ++i) event.detail["key" + std::to_string(i)] = i;
  EXPECT_EQ(bounded(event).detail, Json({{"truncated", true}}));
}

TEST(EventBounds, A_detail_that_fits_stays_as_it_is) {
  const EventDraft event = sample_event();
  EXPECT_EQ(bounded(event).detail, event.detail);
}

TEST(EventBounds, Numbers_that_readers_disagree_on_become_text) {
  EventDraft event = sample_event();
  event.detail = {{"ratio", 0.05},
                  {"large", std::numeric_limits<std::uint64_t>::max()},
                  {"small", std::numeric_limits<std::int64_t>::min()},
                  {"exact", std::int64_t{1} << 53}};
  const Json detail = bounded(event).detail;
  EXPECT_EQ(detail["ratio"], "0.05");
  EXPECT_EQ(detail["large"], "18446744073709551615");
  EXPECT_EQ(detail["small"], "-9223372036854775808");
  EXPECT_EQ(detail["exact"], std::int64_t{1} << 53);
}

TEST(EventBounds, Broken_text_and_endless_nesting_are_made_storable) {
  EventDraft event = sample_event();
  event.actor = std::string(3, '\xff') + std::string(5000, 'a');
  Json deep = "bottom";
  for (int i = 0; i < 1000; ++i) deep = Json::array({deep});
  event.detail = {{"bytes", "\xc3\x28"}, {"deep", deep}};
  const EventDraft stored = bounded(event);
  EXPECT_TRUE(base::is_valid_utf8(stored.actor));
  EXPECT_LE(stored.actor.size(), kMaxFieldBytes);
  EXPECT_EQ(stored.detail["bytes"], "\xEF\xBF\xBD(");
  EXPECT_LT(stored.detail.dump().size(), 200U);
}

TEST(EventBounds, A_detail_that_is_no_object_becomes_one) {
  EventDraft event = sample_event();
  event.detail = "text";
  EXPECT_EQ(bounded(event).detail, Json({{"value", "text"}}));
  event.detail = nullptr;
  EXPECT_EQ(bounded(event).detail, Json::object());
}

TEST(EventBounds, Text_is_cut_between_characters) {
  EXPECT_EQ(bounded_text("äöü", 6), "äöü");
  EXPECT_EQ(bounded_text("äöüä", 6), "ä…");
  EXPECT_EQ(bounded_text("abc", 2), "");
}

}  // namespace
}  // namespace updagent::journal::testing
