// Rows of the chain: how an event is appended, and how one is read back.
#pragma once

#include <string>

#include "agent/journal/journal.hpp"
#include "agent/journal/sqlite.hpp"

namespace updagent::journal {

// Appends within a transaction of the caller, which holds the write lock.
class ChainWriter {
 public:
  static base::Result<ChainWriter> start(Database& database, const std::string& node_name);
  // Bounded first (event_bounds.hpp).
  base::Status append(const EventDraft& draft);
  const HeadProof& newest() const { return newest_; }

 private:
  ChainWriter(Statement insert, HeadProof newest, std::string node_name)
      : insert_(std::move(insert)), newest_(newest), node_name_(std::move(node_name)) {}
  Statement insert_;
  HeadProof newest_;
  std::string node_name_;
};

base::Result<HeadProof> newest_event(Database& database);
base::Result<std::int64_t> oldest_event_id(Database& database);  // 0: none
// Of the event with that id; nothing if there is none.
base::Result<std::optional<base::Digest>> hash_of(Database& database, std::int64_t event_id);

// As it is in the file: what does not fit the chain must stay visible.
struct StoredEvent {
  Event event;            // without detail
  std::string detail;     // the stored text
  bool types_fit = true;  // each column has the type that we write
};

std::string event_columns();  // for SELECT, in the order of read_event
StoredEvent read_event(const Statement& row);
base::Digest expected_hash(const StoredEvent& stored);
// For readers: valid UTF-8, detail parsed; a detail that can't be parsed becomes {"unreadable":
// text}.
Event to_event(StoredEvent stored);

}  // namespace updagent::journal
