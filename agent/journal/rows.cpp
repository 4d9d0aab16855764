#include "agent/journal/rows.hpp"

#include <array>
#include <utility>

#include "agent/journal/event_bounds.hpp"

namespace updagent::journal {
namespace {

using base::Status;

constexpr std::array<std::pair<ReleaseState, std::string_view>, 3> kReleaseStates = {
    {{ReleaseState::staged, "staged"},
     {ReleaseState::good, "good"},
     {ReleaseState::failed, "failed"}}};

ReleaseState release_state_of(std::string_view name) {
  for (const auto& [state, known] : kReleaseStates)
    if (name == known) return state;
  // a state that only a newer version knows: never one that retention would keep or a rollback take
  return ReleaseState::failed;
}

// The columns that store_hold() and store_stop_wish() write.
bool is_of_operator(std::string_view table, std::string_view name) {
  return table == "apps" && (name.starts_with("held") || name.starts_with("stopped"));
}

// INSERT ... ON CONFLICT (key) DO UPDATE SET every other column
template <class Row>
std::string upsert_sql(std::string_view table, std::string_view key) {
  std::string places;
  std::string updates;
  const Row row;
  each_field(row, [&](std::string_view name, const auto&) {
    places += "?, ";
    if (is_of_operator(table, name)) return;
    updates.append(name).append(" = excluded.").append(name).append(", ");
  });
  return "INSERT INTO " + std::string(table) + " (" + column_list<Row>() +
         ", updated_us) VALUES (" + places + "?) ON CONFLICT (" + std::string(key) +
         ") DO UPDATE SET " + updates + "updated_us = excluded.updated_us";
}

std::string newer(std::string_view table) {
  return "excluded.updated_us > " + std::string(table) + ".updated_us";
}

template <class Row>
Status upsert(Database& database, const std::string& sql, const Row& row, const Written& written) {
  UPD_ASSIGN(Statement statement, database.prepare(sql));
  const int fields = bind_row(statement, row);
  statement.bind(fields + 1, written.at_us);
  return statement.run();
}

// Rows with one key and no life of their own: the newer one wins.
template <class Row>
Status upsert_newer(Database& database, std::string_view table, std::string_view key,
                    const Row& row, const Written& written) {
  std::string sql = upsert_sql<Row>(table, key);
  if (written.late) sql += " WHERE " + newer(table);
  return upsert(database, sql, row, written);
}

Status upsert_deployment(Database& database, const DeploymentRow& row, const Written& written) {
  std::string sql = upsert_sql<DeploymentRow>("deployments", "trace_id") +
                    " WHERE (deployments.state <> 'closed' OR excluded.state = 'closed')";
  if (written.late)
    sql += " AND (" + newer("deployments") +
           " OR (deployments.state <> 'closed' AND excluded.state = 'closed'))";
  return upsert(database, sql, row, written);
}

Status know_app(Database& database, const std::string& app) {
  UPD_ASSIGN(Statement statement,
             database.prepare("INSERT INTO apps (app) VALUES (?) ON CONFLICT (app) DO NOTHING"));
  bind_field(statement, 1, app);
  return statement.run();
}

}  // namespace

std::string_view release_state_name(ReleaseState state) {
  return kReleaseStates[static_cast<std::size_t>(state)].second;
}

Json bounded_json(const std::string& text) {
  return bounded_text(text, kMaxRowFieldBytes);
}

void bind_field(Statement& statement, int index, const std::string& value) {
  statement.bind(index, std::string_view(bounded_text(value, kMaxRowFieldBytes)));
}
void bind_field(Statement& statement, int index, std::int64_t value) {
  statement.bind(index, value);
}
void bind_field(Statement& statement, int index, std::uint64_t value) {
  statement.bind(index, static_cast<std::int64_t>(value));
}
void bind_field(Statement& statement, int index, bool value) {
  statement.bind(index, std::int64_t{value ? 1 : 0});
}
void bind_field(Statement& statement, int index, ReleaseState value) {
  statement.bind(index, release_state_name(value));
}

void read_field(const Statement& statement, int column, std::string& value) {
  value = statement.text(column);
}
void read_field(const Statement& statement, int column, std::int64_t& value) {
  value = statement.integer(column);
}
void read_field(const Statement& statement, int column, std::uint64_t& value) {
  value = static_cast<std::uint64_t>(statement.integer(column));
}
void read_field(const Statement& statement, int column, bool& value) {
  value = statement.integer(column) != 0;
}
void read_field(const Statement& statement, int column, ReleaseState& value) {
  value = release_state_of(statement.text(column));
}

namespace {

template <class Value, class Is>
bool take(const Json& object, std::string_view name, Value& value, Is is) {
  const auto found = object.find(name);
  if (found == object.end() || !((*found).*is)()) return false;
  value = found->template get<Value>();
  return true;
}

}  // namespace

bool from_json(const Json& object, std::string_view name, std::string& value) {
  return take(object, name, value, &Json::is_string);
}
bool from_json(const Json& object, std::string_view name, std::int64_t& value) {
  return take(object, name, value, &Json::is_number_integer);
}
bool from_json(const Json& object, std::string_view name, std::uint64_t& value) {
  return take(object, name, value, &Json::is_number_integer);
}
bool from_json(const Json& object, std::string_view name, bool& value) {
  return take(object, name, value, &Json::is_boolean);
}
bool from_json(const Json& object, std::string_view name, ReleaseState& value) {
  std::string text;
  if (!from_json(object, name, text)) return false;
  value = release_state_of(text);
  return true;
}

Status store_hold(Database& database, const AppRow& row) {
  UPD_ASSIGN(Statement statement,
             database.prepare("INSERT INTO apps (app, held, held_by, held_us) VALUES (?, ?, ?, ?) "
                              "ON CONFLICT (app) DO UPDATE SET held = excluded.held, "
                              "held_by = excluded.held_by, held_us = excluded.held_us"));
  bind_field(statement, 1, row.app);
  bind_field(statement, 2, row.held);
  bind_field(statement, 3, row.held_by);
  bind_field(statement, 4, row.held_us);
  return statement.run();
}

Status store_stop_wish(Database& database, const AppRow& row) {
  UPD_ASSIGN(Statement statement,
             database.prepare(
                 "INSERT INTO apps (app, stopped, stopped_by, stopped_us) VALUES (?, ?, ?, ?) "
                 "ON CONFLICT (app) DO UPDATE SET stopped = excluded.stopped, "
                 "stopped_by = excluded.stopped_by, stopped_us = excluded.stopped_us"));
  bind_field(statement, 1, row.app);
  bind_field(statement, 2, row.stopped);
  bind_field(statement, 3, row.stopped_by);
  bind_field(statement, 4, row.stopped_us);
  return statement.run();
}

Status store_rows(Database& database, const Rows& rows, const Written& written) {
  if (rows.app != nullptr) UPD_TRY(upsert_newer(database, "apps", "app", *rows.app, written));
  if (rows.deployment != nullptr) {
    UPD_TRY(know_app(database, rows.deployment->app));
    UPD_TRY(upsert_deployment(database, *rows.deployment, written));
  }
  if (rows.release != nullptr) {
    UPD_TRY(know_app(database, rows.release->app));
    UPD_TRY(upsert_newer(database, "releases", "app, version, digest", *rows.release, written));
  }
  return base::ok();
}

}  // namespace updagent::journal
