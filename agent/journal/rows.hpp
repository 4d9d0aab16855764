// The fields of each row, once: SQL columns, bound values and the spool's JSON all come from these
// lists, so they can't drift apart. The names are those of schema/schema.sql.
#pragma once

#include <concepts>
#include <type_traits>

#include "agent/journal/journal.hpp"
#include "agent/journal/sqlite.hpp"

namespace updagent::journal {

template <class Given, class Row>
concept IsRow = std::same_as<std::remove_const_t<Given>, Row>;

// Without detail and the chain, which are not plain values.
template <class Visit>
void each_field(IsRow<EventDraft> auto& row, Visit&& visit) {
  visit("trace_id", row.trace_id);
  visit("span_id", row.span_id);
  visit("parent_span_id", row.parent_span_id);
  visit("app", row.app);
  visit("event", row.event);
  visit("stage", row.stage);
  visit("phase", row.phase);
  visit("status", row.status);
  visit("timestamp_us", row.timestamp_us);
  visit("duration_us", row.duration_us);
  visit("from_version", row.from_version);
  visit("to_version", row.to_version);
  visit("actor", row.actor);
}

template <class Visit>
void each_field(IsRow<DeploymentRow> auto& row, Visit&& visit) {
  visit("trace_id", row.trace_id);
  visit("root_span_id", row.root_span_id);
  visit("app", row.app);
  visit("kind", row.kind);
  visit("from_version", row.from_version);
  visit("to_version", row.to_version);
  visit("to_digest", row.to_digest);
  visit("source", row.source);
  visit("actor", row.actor);
  visit("state", row.state);
  visit("pre_upgrade_ran", row.pre_upgrade_ran);
  visit("outcome", row.outcome);
  visit("reason", row.reason);
  visit("started_us", row.started_us);
  visit("ended_us", row.ended_us);
  visit("driver_pid", row.driver_pid);
  visit("boot_id", row.boot_id);
  visit("bytes_downloaded", row.bytes_downloaded);
  visit("bytes_reused", row.bytes_reused);
  visit("committed_before", row.committed_before);
  visit("allows_downgrade", row.allows_downgrade);
}

template <class Visit>
void each_field(IsRow<ReleaseRow> auto& row, Visit&& visit) {
  visit("app", row.app);
  visit("version", row.version);
  visit("digest", row.digest);
  visit("state", row.state);
  visit("size_bytes", row.size_bytes);
  visit("installed_us", row.installed_us);
  visit("trace_id", row.trace_id);
  visit("removed", row.removed);
}

template <class Visit>
void each_field(IsRow<AppRow> auto& row, Visit&& visit) {
  visit("app", row.app);
  visit("high_water", row.high_water);
  visit("previous", row.previous);
  visit("held", row.held);
  visit("held_by", row.held_by);
  visit("held_us", row.held_us);
  visit("stopped", row.stopped);
  visit("stopped_by", row.stopped_by);
  visit("stopped_us", row.stopped_us);
}

// What is stored together; any part may be absent.
struct Rows {
  const DeploymentRow* deployment = nullptr;
  const ReleaseRow* release = nullptr;
  const AppRow* app = nullptr;
};

template <class Row>
std::string column_list() {
  std::string list;
  const Row row;
  each_field(row, [&list](std::string_view name, const auto&) {
    if (!list.empty()) list += ", ";
    list += name;
  });
  return list;
}

// --- one value in SQL -------------------------------------------------------------------------
void bind_field(Statement& statement, int index, const std::string& value);
void bind_field(Statement& statement, int index, std::int64_t value);
void bind_field(Statement& statement, int index, std::uint64_t value);
void bind_field(Statement& statement, int index, bool value);
void bind_field(Statement& statement, int index, ReleaseState value);
void read_field(const Statement& statement, int column, std::string& value);
void read_field(const Statement& statement, int column, std::int64_t& value);
void read_field(const Statement& statement, int column, std::uint64_t& value);
void read_field(const Statement& statement, int column, bool& value);
void read_field(const Statement& statement, int column, ReleaseState& value);

// Returns how many were bound.
template <class Row>
int bind_row(Statement& statement, const Row& row) {
  int index = 0;
  each_field(row,
             [&](std::string_view, const auto& value) { bind_field(statement, ++index, value); });
  return index;
}

template <class Row>
Row read_row(const Statement& statement, int column = 0) {
  Row row;
  each_field(row, [&](std::string_view, auto& value) { read_field(statement, column++, value); });
  return row;
}

// --- one value in JSON ------------------------------------------------------------------------
// False: it is not there or of another type.
bool from_json(const Json& object, std::string_view name, std::string& value);
bool from_json(const Json& object, std::string_view name, std::int64_t& value);
bool from_json(const Json& object, std::string_view name, std::uint64_t& value);
bool from_json(const Json& object, std::string_view name, bool& value);
bool from_json(const Json& object, std::string_view name, ReleaseState& value);
Json bounded_json(const std::string& text);  // cut to kMaxRowFieldBytes
inline Json json_value(const std::string& value) {
  return bounded_json(value);
}
inline Json json_value(ReleaseState value) {
  return std::string(release_state_name(value));
}
template <class Number>
Json json_value(const Number& value) {
  return value;
}

template <class Row>
Json row_to_json(const Row& row) {
  Json object = Json::object();
  each_field(row, [&](std::string_view name, const auto& value) {
    object[std::string(name)] = json_value(value);
  });
  return object;
}

// Columns that came with 0002 and 0003: a spool that an older version wrote is whole without them.
inline bool may_be_missing(std::string_view name) {
  return name == "committed_before" || name == "allows_downgrade" || name == "stopped" ||
         name == "stopped_by" || name == "stopped_us";
}

template <class Row>
bool row_from_json(const Json& object, Row& row) {
  bool complete = object.is_object();
  each_field(row, [&](std::string_view name, auto& value) {
    complete = complete && (from_json(object, name, value) || may_be_missing(name));
  });
  return complete;
}

// When the caller wrote them. Late ones (from the spool) lose against rows that are newer.
struct Written {
  std::int64_t at_us = 0;
  bool late = false;
};

// Inside a transaction of the caller. A closed deployment is never opened again: a driver that hung
// while its guardian rolled back must not win because it writes last.
base::Status store_rows(Database& database, const Rows& rows, const Written& written);
// The held columns of apps, and nothing else.
base::Status store_hold(Database& database, const AppRow& row);
// The stopped columns of apps, and nothing else.
base::Status store_stop_wish(Database& database, const AppRow& row);

}  // namespace updagent::journal
