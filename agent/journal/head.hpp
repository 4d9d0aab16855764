// audit.head: count and hash of the newest event, outside of the database, so that rows which
// vanish from its end show. Never replaced by an older one, nor by one that contradicts it: then
// the file that is there is evidence, and stays.
#pragma once

#include <optional>
#include <string>

#include "agent/journal/journal.hpp"
#include "agent/journal/sqlite.hpp"

namespace updagent::journal {

// Nothing when there is no such file; Code::damaged when it can't be understood.
base::Result<std::optional<HeadProof>> read_head(const std::string& path);
// For a new journal; an existing file stays.
base::Status make_first_head(const std::string& path);
// Brings the file to the newest event of the database. With `may_wait` false a lock that another
// writer holds is not waited for: that one, or the next event, brings the file along.
base::Status advance_head(const std::string& path, Database& database, bool may_wait);

// Serializes writers of audit.head and whoever makes or migrates the database.
std::string head_lock_path(const std::string& head_path);

}  // namespace updagent::journal
