// Who holds a lock on the database: SQLite only says that someone does.
#pragma once

#include <string>

namespace updagent::journal {

// "process 4711 (updagent)", or "another process" when the kernel does not tell. Reads /proc/locks
// and stat(2) only: opening and closing one of SQLite's files would drop this process's own locks
// on it (POSIX locks belong to the process, not to the descriptor).
std::string lock_holder(const std::string& database_path);

}  // namespace updagent::journal
