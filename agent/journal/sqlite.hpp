// SQLite with owners: a database, a statement, a transaction that rolls back unless it is
// committed. Values are always bound; the only SQL that is put together at run time consists of our
// constants.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/clock.hpp"
#include "agent/base/digest.hpp"
#include "agent/base/error.hpp"

struct sqlite3;
struct sqlite3_stmt;

namespace updagent::journal {

inline constexpr int kMaxValueBytes =
    1 << 20;  // one stored value: kMaxDetailBytes and room for a row

// The first problem while binding is kept and returned by next() or run().
class Statement {
 public:
  void bind(int index, std::int64_t value);
  void bind(int index, std::string_view value);
  void bind(int index, const base::Digest& value);

  base::Result<bool> next();  // true: there is a row
  base::Status run();         // to the end, and ready for the next values

  std::int64_t integer(int column) const;
  std::string text(int column) const;
  std::optional<base::Digest> digest(int column) const;  // nothing unless a blob of 32 bytes
  bool is_integer(int column) const;
  bool is_text(int column) const;

 private:
  friend class Database;
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const;
  };
  explicit Statement(sqlite3_stmt* statement) : statement_(statement) {}
  void note(int code);
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
  int bind_problem_ = 0;
};

class Database {
 public:
  enum class Access { read_write, read_only };
  // Opens and hardens. The file must be there. -wal and -shm stay
  // when the last connection closes: a reader without write access needs them.
  static base::Result<Database> open(const std::string& path, Access access,
                                     base::Milliseconds busy_timeout);
  void set_busy_timeout(base::Milliseconds busy_timeout);
  base::Result<Statement> prepare(std::string_view sql);
  base::Status execute(const std::string& constant_sql);
  // The one value of a pragma or a count; 0 when there is no row.
  base::Result<std::int64_t> integer(std::string_view sql);
  std::int64_t changed_rows() const;  // by the last statement
  // Someone renamed or removed the file under us: what is written now would be lost.
  bool moved() const;

 private:
  friend class Transaction;
  struct Close {
    void operator()(sqlite3* handle) const;
  };
  explicit Database(sqlite3* handle) : handle_(handle) {}
  base::Status harden();
  std::unique_ptr<sqlite3, Close> handle_;
};

class Transaction {
 public:
  // The write lock is taken now, waiting up to the busy timeout.
  static base::Result<Transaction> begin_immediate(Database& database);
  // One view of the database until the end.
  static base::Result<Transaction> begin_read(Database& database);
  Transaction(Transaction&& other) noexcept;
  Transaction& operator=(Transaction&&) = delete;
  ~Transaction();
  base::Status commit();

 private:
  explicit Transaction(Database& database) : database_(&database) {}
  Database* database_;  // null: committed or moved from
};

}  // namespace updagent::journal
