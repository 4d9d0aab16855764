#include "agent/journal/sqlite.hpp"

#include <sqlite3.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "agent/base/failpoints.hpp"
#include "agent/journal/lock_holder.hpp"

namespace updagent::journal {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::Status;

bool is_full(int code, int system_errno) {
  if ((code & 0xFF) == SQLITE_FULL) return true;
  return (code & 0xFF) == SQLITE_IOERR && (system_errno == ENOSPC || system_errno == EDQUOT);
}

Error damaged(const std::string& journal, const char* what) {
  return Error(Code::journal_unusable, journal + " is damaged: " + what)
      .hint("updagent recover --rebuild makes a new one from the trees and keeps this one aside");
}

Error not_permitted(const std::string& journal, bool read_only) {
  if (read_only)
    return Error(Code::journal_unusable, "cannot read " + journal)
        .hint("run it as root, or as a member of the group that [audit] group names");
  return Error(Code::root_not_writable, "cannot write " + journal)
      .hint("run it with sudo, or give --root DIR");
}

Error database_error(sqlite3* handle, int code) {
  const char* name = sqlite3_db_filename(handle, "main");
  const std::string path = name == nullptr ? "" : name;
  const std::string journal = "the journal '" + path + "'";
  const char* what = sqlite3_errmsg(handle);
  const int system_errno = sqlite3_system_errno(handle);
  if (is_full(code, system_errno))
    return Error(Code::no_space, "cannot write " + journal + ": no space left on the device");
  switch (code & 0xFF) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return Error(Code::journal_unusable, journal + " is locked by " + lock_holder(path))
          .hint("wait until it is done, or end it");
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return damaged(journal, what);
    case SQLITE_READONLY:
    case SQLITE_PERM:
      return not_permitted(journal, sqlite3_db_readonly(handle, "main") == 1);
    case SQLITE_CANTOPEN:
      if (system_errno == EACCES || system_errno == EROFS)
        return not_permitted(journal, sqlite3_db_readonly(handle, "main") == 1);
      break;
    default:
      break;
  }
  std::string message = "cannot use " + journal + ": " + what;
  if (system_errno != 0) message += std::string(" (") + strerrordesc_np(system_errno) + ")";
  return Error(Code::io_error, std::move(message));
}

}  // namespace

// --- Statement --------------------------------------------------------------------------------

void Statement::Finalize::operator()(sqlite3_stmt* statement) const {
  sqlite3_finalize(statement);
}

void Statement::note(int code) {
  if (bind_problem_ == SQLITE_OK) bind_problem_ = code;
}

void Statement::bind(int index, std::int64_t value) {
  note(sqlite3_bind_int64(statement_.get(), index, value));
}

void Statement::bind(int index, std::string_view value) {
  // a null pointer would bind NULL
  const char* bytes = value.data() == nullptr ? "" : value.data();
  note(sqlite3_bind_text64(statement_.get(), index, bytes, value.size(),
                           SQLITE_TRANSIENT,  // NOLINT(performance-no-int-to-ptr)
                           SQLITE_UTF8));
}

void Statement::bind(int index, const base::Digest& value) {
  note(sqlite3_bind_blob64(statement_.get(), index, value.bytes.data(), value.bytes.size(),
                           SQLITE_TRANSIENT));  // NOLINT(performance-no-int-to-ptr)
}

Result<bool> Statement::next() {
  const int code = bind_problem_ != SQLITE_OK ? bind_problem_ : sqlite3_step(statement_.get());
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return database_error(sqlite3_db_handle(statement_.get()), code);
}

Status Statement::run() {
  for (;;) {
    auto row = next();
    if (!row) {
      Error error = std::move(row).error();
      sqlite3_reset(statement_.get());
      return error;
    }
    if (!*row) break;
  }
  sqlite3_reset(statement_.get());
  return base::ok();
}

std::int64_t Statement::integer(int column) const {
  return sqlite3_column_int64(statement_.get(), column);
}

std::string Statement::text(int column) const {
  const auto* bytes = static_cast<const char*>(sqlite3_column_blob(statement_.get(), column));
  const auto size = static_cast<std::size_t>(sqlite3_column_bytes(statement_.get(), column));
  return bytes == nullptr ? std::string() : std::string(bytes, size);
}

std::optional<base::Digest> Statement::digest(int column) const {
  base::Digest digest;
  const auto* bytes = static_cast<const char*>(sqlite3_column_blob(statement_.get(), column));
  const auto size = static_cast<std::size_t>(sqlite3_column_bytes(statement_.get(), column));
  if (sqlite3_column_type(statement_.get(), column) != SQLITE_BLOB || size != digest.bytes.size())
    return std::nullopt;
  std::copy_n(bytes, size, digest.bytes.begin());
  return digest;
}

bool Statement::is_integer(int column) const {
  return sqlite3_column_type(statement_.get(), column) == SQLITE_INTEGER;
}

bool Statement::is_text(int column) const {
  return sqlite3_column_type(statement_.get(), column) == SQLITE_TEXT;
}

// --- Database ---------------------------------------------------------------------------------

void Database::Close::operator()(sqlite3* handle) const {
  sqlite3_close_v2(handle);
}

Result<Database> Database::open(const std::string& path, Access access,
                                base::Milliseconds busy_timeout) {
  const int flags = access == Access::read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
  sqlite3* handle = nullptr;
  const int code = sqlite3_open_v2(path.c_str(), &handle, flags, nullptr);
  if (handle == nullptr) return Error(Code::internal, "no memory to open '" + path + "'");
  Database database(handle);
  if (code != SQLITE_OK) {
    if (sqlite3_system_errno(handle) == EACCES)
      return not_permitted("the journal '" + path + "'", access == Access::read_only);
    return Error(Code::journal_unusable, "cannot open the journal '" + path + "'")
        .got(sqlite3_errmsg(handle));
  }
  database.set_busy_timeout(busy_timeout);
  UPD_TRY(database.harden());
  return database;
}

void Database::set_busy_timeout(base::Milliseconds busy_timeout) {
  sqlite3_busy_timeout(handle_.get(), static_cast<int>(busy_timeout.count()));
}

Status Database::harden() {
  sqlite3_extended_result_codes(handle_.get(), 1);
  sqlite3_limit(handle_.get(), SQLITE_LIMIT_LENGTH, kMaxValueBytes);
  sqlite3_limit(handle_.get(), SQLITE_LIMIT_ATTACHED, 0);
  // Our schema has no views and no triggers: what someone put into the file does not run here.
  sqlite3_db_config(handle_.get(), SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(handle_.get(), SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  sqlite3_db_config(handle_.get(), SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, nullptr);
  sqlite3_db_config(handle_.get(), SQLITE_DBCONFIG_ENABLE_VIEW, 0, nullptr);
  sqlite3_db_config(handle_.get(), SQLITE_DBCONFIG_ENABLE_FKEY, 1, nullptr);
  int keep_wal = 1;
  const int code = sqlite3_file_control(handle_.get(), "main", SQLITE_FCNTL_PERSIST_WAL, &keep_wal);
  if (code != SQLITE_OK) return database_error(handle_.get(), code);
  // mmap off: a file that is cut short must be an error, not a SIGBUS
  return execute(
      "PRAGMA mmap_size = 0; PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY;"
      "PRAGMA synchronous = FULL;");
}

Result<Statement> Database::prepare(std::string_view sql) {
  sqlite3_stmt* raw = nullptr;
  const int code =
      sqlite3_prepare_v2(handle_.get(), sql.data(), static_cast<int>(sql.size()), &raw, nullptr);
  Statement statement(raw);
  if (code != SQLITE_OK) return database_error(handle_.get(), code);
  return statement;
}

Status Database::execute(const std::string& constant_sql) {
  const int code = sqlite3_exec(handle_.get(), constant_sql.c_str(), nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return database_error(handle_.get(), code);
  return base::ok();
}

Result<std::int64_t> Database::integer(std::string_view sql) {
  UPD_ASSIGN(Statement statement, prepare(sql));
  UPD_ASSIGN(const bool row, statement.next());
  return row ? statement.integer(0) : std::int64_t{0};
}

std::int64_t Database::changed_rows() const {
  return sqlite3_changes64(handle_.get());
}

bool Database::moved() const {
  int answer = 0;
  sqlite3_file_control(handle_.get(), "main", SQLITE_FCNTL_HAS_MOVED, &answer);
  return answer != 0;
}

// --- Transaction ------------------------------------------------------------------------------

Result<Transaction> Transaction::begin_immediate(Database& database) {
  UPD_TRY(database.execute("BEGIN IMMEDIATE"));
  return Transaction(database);
}

Result<Transaction> Transaction::begin_read(Database& database) {
  UPD_TRY(database.execute("BEGIN DEFERRED"));
  return Transaction(database);
}

Transaction::Transaction(Transaction&& other) noexcept
    : database_(std::exchange(other.database_, nullptr)) {}

Transaction::~Transaction() {
  // SQLite has rolled back by itself after some errors
  if (database_ == nullptr || sqlite3_get_autocommit(database_->handle_.get()) != 0) return;
  sqlite3_exec(database_->handle_.get(), "ROLLBACK", nullptr, nullptr, nullptr);
}

Status Transaction::commit() {
  if (const int injected = base::failpoint::fail("sqlite.commit"); injected != 0)
    return base::system_error(injected, "cannot commit to the journal");
  UPD_TRY(database_->execute("COMMIT"));
  database_ = nullptr;
  return base::ok();
}

}  // namespace updagent::journal
