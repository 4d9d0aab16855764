#include "agent/journal/queries.hpp"

#include <algorithm>
#include <limits>

#include "agent/journal/chain.hpp"
#include "agent/journal/journal_impl.hpp"

namespace updagent::journal {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::Status;

constexpr std::size_t kMinTracePrefix =
    6;  // 24 bits: two of a node's deployments rarely share them
constexpr std::size_t kTraceDigits = 32;
// Events between two looks at the database: no read transaction stays open while a pager waits, and
// no more than this many details are in memory.
constexpr std::int64_t kPageRows = 64;

// Which index serves the filter: the most selective one. The other columns get a unary plus, which
// keeps SQLite from choosing theirs: it has no statistics and would guess.
std::string_view leading_column(const LogFilter& filter) {
  if (!filter.trace.empty()) return "trace_id";
  const bool rare = filter.status == "failure" || filter.status == "skipped";
  if (rare) return "status";
  if (!filter.stage.empty()) return "stage";
  if (!filter.app.empty()) return "app";
  if (!filter.status.empty()) return "status";
  return "";
}

void add_conditions(Query& query, const LogFilter& filter) {
  const std::string_view leading = leading_column(filter);
  const auto equal = [&](std::string_view column, const std::string& value) {
    if (value.empty()) return;
    query.sql += column == leading ? " AND " : " AND +";
    query.sql.append(column).append(" = ?");
    query.values.emplace_back(value);
  };
  equal("trace_id", filter.trace);
  equal("app", filter.app);
  equal("stage", filter.stage);
  equal("status", filter.status);
  if (filter.until_us) {
    query.sql += " AND timestamp_us <= ?";
    query.values.emplace_back(*filter.until_us);
  }
}

std::int64_t since(const LogFilter& filter) {
  return filter.since_us.value_or(std::numeric_limits<std::int64_t>::min());
}

Result<Statement> prepared(Database& database, const Query& query) {
  UPD_ASSIGN(Statement statement, database.prepare(query.sql));
  int index = 0;
  for (const auto& value : query.values) {
    ++index;
    if (const auto* number = std::get_if<std::int64_t>(&value)) {
      statement.bind(index, *number);
    } else {
      statement.bind(index, std::string_view(std::get<std::string>(value)));
    }
  }
  return statement;
}

Status check_prefix(const std::string& trace) {
  const bool hex = trace.find_first_not_of("0123456789abcdef") == std::string::npos;
  if (hex && trace.size() >= kMinTracePrefix && trace.size() <= kTraceDigits) return base::ok();
  return Error(Code::usage, "'" + trace + "' is not a trace id")
      .expected("at least its first " + std::to_string(kMinTracePrefix) +
                " digits, lower-case hexadecimal")
      .got("'" + trace + "'");
}

// The one trace of `table` that starts with `prefix`; nothing when none does.
Result<std::optional<std::string>> whole_trace(Database& database, const std::string& table,
                                               const std::string& prefix) {
  UPD_TRY(check_prefix(prefix));
  UPD_ASSIGN(Statement fitting,
             database.prepare("SELECT DISTINCT trace_id FROM " + table +
                              " WHERE trace_id >= ? AND trace_id < ? ORDER BY trace_id LIMIT 2"));
  fitting.bind(1, std::string_view(prefix));
  fitting.bind(2, std::string_view(prefix + "g"));  // right after every hexadecimal digit
  UPD_ASSIGN(const bool first, fitting.next());
  if (!first) return std::optional<std::string>();
  std::string trace = fitting.text(0);
  UPD_ASSIGN(const bool second, fitting.next());
  if (!second) return std::optional<std::string>(std::move(trace));
  return Error(Code::usage, "'" + prefix + "' fits more than one deployment")
      .got(trace + ", " + fitting.text(0))
      .hint("give more digits");
}

// Where printing begins: right before the first event that is wanted.
Result<Position> start_of(Database& database, const LogFilter& filter, std::int64_t newest_id) {
  const Position all{since(filter), 0};
  if (filter.limit == 0) return all;
  UPD_ASSIGN(Statement oldest, prepared(database, oldest_of_newest(filter, newest_id)));
  UPD_ASSIGN(const bool row, oldest.next());
  if (!row) return all;
  return Position{oldest.integer(0), oldest.integer(1) - 1};
}

Result<std::vector<Event>> read_page(Database& database, const Query& query) {
  std::vector<Event> page;
  UPD_ASSIGN(Statement rows, prepared(database, query));
  for (;;) {
    UPD_ASSIGN(const bool row, rows.next());
    if (!row) return page;
    page.push_back(to_event(read_event(rows)));
  }
}

template <class Row>
Result<std::vector<Row>> read_rows(Statement statement) {
  std::vector<Row> rows;
  for (;;) {
    UPD_ASSIGN(const bool row, statement.next());
    if (!row) return rows;
    rows.push_back(read_row<Row>(statement));
  }
}

template <class Row>
Result<std::optional<Row>> read_one_row(Statement statement) {
  UPD_ASSIGN(const bool row, statement.next());
  if (!row) return std::optional<Row>();
  return std::optional<Row>(read_row<Row>(statement));
}

Result<std::vector<std::string>> read_names(Statement statement) {
  std::vector<std::string> names;
  for (;;) {
    UPD_ASSIGN(const bool row, statement.next());
    if (!row) return names;
    names.push_back(statement.text(0));
  }
}

}  // namespace

Query oldest_of_newest(const LogFilter& filter, std::int64_t newest_id) {
  Query query{
      "SELECT timestamp_us, event_id FROM events WHERE +event_id <= ? AND timestamp_us >= ?",
      {newest_id, since(filter)}};
  add_conditions(query, filter);
  query.sql += " ORDER BY timestamp_us DESC, event_id DESC LIMIT 1 OFFSET ?";
  query.values.emplace_back(static_cast<std::int64_t>(filter.limit) - 1);
  return query;
}

Query next_page(const LogFilter& filter, const Position& after, std::int64_t newest_id,
                std::int64_t rows) {
  Query query{"SELECT " + event_columns() +
                  " FROM events WHERE +event_id <= ? AND timestamp_us >= ?"
                  " AND (timestamp_us > ? OR event_id > ?)",
              {newest_id, after.timestamp_us, after.timestamp_us, after.event_id}};
  add_conditions(query, filter);
  query.sql += " ORDER BY timestamp_us, event_id LIMIT ?";
  query.values.emplace_back(rows);
  return query;
}

Status Journal::query(const LogFilter& filter, const std::function<bool(const Event&)>& each) {
  Database& database = impl_->database;
  LogFilter whole = filter;
  if (!filter.trace.empty()) {
    UPD_ASSIGN(const auto trace, whole_trace(database, "events", filter.trace));
    if (!trace)
      return Error(Code::not_found, "no event has the trace '" + filter.trace + "'")
          .hint("updagent log lists the traces");
    whole.trace = *trace;
  }
  UPD_ASSIGN(const HeadProof newest, newest_event(database));
  UPD_ASSIGN(Position position, start_of(database, whole, newest.count));
  for (;;) {
    UPD_ASSIGN(const auto page,
               read_page(database, next_page(whole, position, newest.count, kPageRows)));
    for (const Event& event : page)
      if (!each(event)) return base::ok();
    if (page.size() < static_cast<std::size_t>(kPageRows)) return base::ok();
    position = {page.back().timestamp_us, page.back().event_id};
  }
}

Result<std::optional<DeploymentRow>> Journal::open_deployment(const std::string& app) {
  UPD_ASSIGN(Statement newest,
             impl_->database.prepare("SELECT " + column_list<DeploymentRow>() +
                                     " FROM deployments WHERE app = ? AND state <> 'closed'"
                                     " ORDER BY started_us DESC LIMIT 1"));
  newest.bind(1, std::string_view(app));
  UPD_ASSIGN(auto row, read_one_row<DeploymentRow>(std::move(newest)));
  if (!row) return row;
  for (const DeploymentRow& later : impl_->waiting)
    if (later.trace_id == row->trace_id) *row = later;
  if (row->state == kClosedState) row.reset();
  return row;
}

Result<std::optional<DeploymentRow>> Journal::deployment(const std::string& trace_id) {
  UPD_ASSIGN(const auto trace, whole_trace(impl_->database, "deployments", trace_id));
  if (!trace) return std::optional<DeploymentRow>();
  UPD_ASSIGN(Statement one, impl_->database.prepare("SELECT " + column_list<DeploymentRow>() +
                                                    " FROM deployments WHERE trace_id = ?"));
  one.bind(1, std::string_view(*trace));
  return read_one_row<DeploymentRow>(std::move(one));
}

Result<std::optional<DeploymentRow>> Journal::last_deployment(const std::string& app) {
  UPD_ASSIGN(Statement newest, impl_->database.prepare("SELECT " + column_list<DeploymentRow>() +
                                                       " FROM deployments WHERE app = ?"
                                                       " ORDER BY started_us DESC LIMIT 1"));
  newest.bind(1, std::string_view(app));
  return read_one_row<DeploymentRow>(std::move(newest));
}

Result<std::optional<DeploymentRow>> Journal::last_switching_deployment(const std::string& app) {
  UPD_ASSIGN(Statement newest,
             impl_->database.prepare("SELECT " + column_list<DeploymentRow>() +
                                     " FROM deployments WHERE app = ? AND outcome IN "
                                     "('committed', 'rolled_back', 'rollback_failed')"
                                     " ORDER BY started_us DESC LIMIT 1"));
  newest.bind(1, std::string_view(app));
  return read_one_row<DeploymentRow>(std::move(newest));
}

Result<bool> Journal::was_a_goal(const std::string& app, const std::string& version) {
  UPD_ASSIGN(Statement one, impl_->database.prepare("SELECT 1 FROM deployments WHERE app = ? AND "
                                                    "to_version = ? LIMIT 1"));
  one.bind(1, std::string_view(app));
  one.bind(2, std::string_view(version));
  return one.next();
}

Result<std::vector<std::string>> Journal::apps_with_open_deployment() {
  UPD_ASSIGN(Statement open, impl_->database.prepare("SELECT DISTINCT app FROM deployments "
                                                     "WHERE state <> 'closed' ORDER BY app"));
  return read_names(std::move(open));
}

Result<std::vector<ReleaseRow>> Journal::releases(const std::string& app) {
  UPD_ASSIGN(Statement all, impl_->database.prepare(
                                "SELECT " + column_list<ReleaseRow>() +
                                " FROM releases WHERE app = ? ORDER BY installed_us, version"));
  all.bind(1, std::string_view(app));
  return read_rows<ReleaseRow>(std::move(all));
}

Result<std::optional<AppRow>> Journal::app(const std::string& app) {
  UPD_ASSIGN(Statement one, impl_->database.prepare("SELECT " + column_list<AppRow>() +
                                                    " FROM apps WHERE app = ?"));
  one.bind(1, std::string_view(app));
  return read_one_row<AppRow>(std::move(one));
}

Result<std::vector<std::string>> Journal::apps() {
  UPD_ASSIGN(Statement all,
             impl_->database.prepare("SELECT app FROM apps WHERE app <> '' ORDER BY app"));
  return read_names(std::move(all));
}

}  // namespace updagent::journal
