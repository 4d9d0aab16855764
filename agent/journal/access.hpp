// The audit group reads the database without write access to anything.
#pragma once

#include <string>

#include "agent/journal/journal.hpp"

namespace updagent::journal {

// Makes the file if it is not there, private from its first instant.
base::Status make_database_file(const std::string& path);
// 0640 and the group for the database, its -wal and -shm; 0600 for "". What can't be done is told
// and not an error: a directory service that is down must not stop a deployment.
base::Status share_with_group(const std::string& database_path, const std::string& group);

}  // namespace updagent::journal
