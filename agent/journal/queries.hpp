// The SQL behind `updagent log`, apart from running it: a test asks SQLite how it would run each.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "agent/journal/journal.hpp"

namespace updagent::journal {

struct Query {
  std::string sql;
  std::vector<std::variant<std::int64_t, std::string>> values;
};

// A place in the order in which events are printed.
struct Position {
  std::int64_t timestamp_us = 0;
  std::int64_t event_id = 0;
};

// `trace` in the filter is a whole trace id here.
// The oldest of the newest `limit` events: one row (timestamp_us, event_id), or none when there are
// fewer.
Query oldest_of_newest(const LogFilter& filter, std::int64_t newest_id);
// The next `rows` events after `after`, none past `newest_id`.
Query next_page(const LogFilter& filter, const Position& after, std::int64_t newest_id,
                std::int64_t rows);

}  // namespace updagent::journal
