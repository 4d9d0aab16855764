// Is the file ours, and which version of the schema does it have? schema/NNNN_*.sql in order.
#pragma once

#include "agent/base/clock.hpp"
#include "agent/journal/journal.hpp"
#include "agent/journal/sqlite.hpp"

namespace updagent::journal {

inline constexpr std::int64_t kApplicationId =
    0x55504441;  // "UPDA": file(1) and we know it by this

struct SchemaState {
  std::int64_t version = 0;     // PRAGMA user_version; 0: an empty file
  std::int64_t min_writer = 0;  // who has an older newest migration must not write
};

// The newest migration of this binary.
std::int64_t own_schema_version();
// Code::journal_unusable when it is another program's file.
base::Result<SchemaState> read_schema_state(Database& database, const std::string& path);
// Makes or migrates, one process at a time. Code::journal_unusable when the database is newer and
// must not be written by this version.
base::Status migrate(Database& database, const Paths& paths, base::Milliseconds busy_timeout);

}  // namespace updagent::journal
