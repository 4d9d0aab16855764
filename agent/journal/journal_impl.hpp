// What an open journal holds. One thread at a time.
#pragma once

#include <string>
#include <vector>

#include "agent/journal/chain.hpp"
#include "agent/journal/journal.hpp"
#include "agent/journal/rows.hpp"
#include "agent/journal/sqlite.hpp"

namespace updagent::journal {

struct Journal::Impl {
  Paths paths;
  std::string node_name;
  Mode mode;
  Database database;
  std::vector<std::string> warnings;
  bool waits_for_head = true;          // false from the switch on: the next event brings it along
  std::vector<DeploymentRow> waiting;  // of spool files that could not be imported, oldest first

  // A write transaction in a database that is still at its path.
  base::Result<Transaction> begin_write();
  // Commits, then brings audit.head along; a head that can't be written is only a warning.
  base::Status commit(Transaction transaction);
  void warn(const base::Error& error);
  base::Status note_missing_head();
};

}  // namespace updagent::journal
