#include "agent/journal/migrations.hpp"

#include "agent/base/file_lock.hpp"
#include "agent/journal/head.hpp"
#include "schema/embedded.hpp"

namespace updagent::journal {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::Status;

Error not_ours(const std::string& path, std::int64_t application_id) {
  return Error(Code::journal_unusable, "'" + path + "' is the database of another program")
      .expected("application id " + std::to_string(kApplicationId))
      .got(std::to_string(application_id))
      .hint("move it away, or give another --root");
}

Status refuse_newer(const SchemaState& state, const std::string& path) {
  if (state.min_writer <= own_schema_version()) return base::ok();
  return Error(Code::journal_unusable, "the journal '" + path + "' is written by a newer updagent")
      .expected("a schema that version " + std::to_string(own_schema_version()) + " may write")
      .got("version " + std::to_string(state.version) + ", from " +
           std::to_string(state.min_writer) + " on")
      .hint(
          "use the newer updagent; rollback, recover, stop and every command that only reads work "
          "with this one");
}

// In the header of the file, so that it is known before any page is understood.
Status use_wal(Database& database, const std::string& path) {
  UPD_ASSIGN(Statement mode, database.prepare("PRAGMA journal_mode = WAL"));
  UPD_ASSIGN(const bool row, mode.next());
  if (row && mode.text(0) == "wal") return base::ok();
  return Error(Code::journal_unusable, "the journal '" + path + "' can't be put into WAL mode")
      .expected("a local file system with shared memory maps")
      .got(row ? mode.text(0) : "nothing");
}

Status apply_from(Database& database, std::int64_t version) {
  UPD_ASSIGN(Transaction transaction, Transaction::begin_immediate(database));
  for (const schema::Migration& migration : schema::migrations()) {
    if (migration.version <= version) continue;
    UPD_TRY_CONTEXT(database.execute(std::string(migration.sql)),
                    "migration " + std::string(migration.name));
  }
  UPD_TRY(database.execute("PRAGMA application_id = " + std::to_string(kApplicationId)));
  UPD_TRY(database.execute("PRAGMA user_version = " + std::to_string(own_schema_version())));
  return transaction.commit();
}

}  // namespace

std::int64_t own_schema_version() {
  return schema::migrations().back().version;
}

Result<SchemaState> read_schema_state(Database& database, const std::string& path) {
  // one view: another process may be making the database right now
  UPD_ASSIGN(const Transaction view, Transaction::begin_read(database));
  UPD_ASSIGN(const std::int64_t application_id, database.integer("PRAGMA application_id"));
  UPD_ASSIGN(const std::int64_t version, database.integer("PRAGMA user_version"));
  if (application_id == kApplicationId) {
    UPD_ASSIGN(const std::int64_t min_writer,
               database.integer("SELECT min_writer FROM schema_info WHERE id = 1"));
    return SchemaState{version, min_writer};
  }
  UPD_ASSIGN(const std::int64_t tables, database.integer("SELECT count(*) FROM sqlite_master"));
  if (application_id != 0 || version != 0 || tables != 0) return not_ours(path, application_id);
  return SchemaState{};
}

Status migrate(Database& database, const Paths& paths, base::Milliseconds busy_timeout) {
  UPD_ASSIGN(const SchemaState state, read_schema_state(database, paths.database));
  if (state.version >= own_schema_version()) {
    UPD_TRY(refuse_newer(state, paths.database));
    return use_wal(database, paths.database);
  }
  auto lock = base::FileLock::take(head_lock_path(paths.head), busy_timeout, nullptr);
  if (!lock && lock.error().code() == Code::busy)
    return Error(Code::journal_unusable,
                 "the journal '" + paths.database + "' is being made by another process");
  if (!lock) return std::move(lock).error();
  UPD_ASSIGN(const SchemaState now, read_schema_state(database, paths.database));
  UPD_TRY(use_wal(database, paths.database));
  // the head first: from now on a missing one means that someone removed it
  if (now.version == 0) UPD_TRY(make_first_head(paths.head));
  if (now.version >= own_schema_version()) return base::ok();
  return apply_from(database, now.version);
}

}  // namespace updagent::journal
