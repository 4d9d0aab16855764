// Opening the database for the verbs that look and for those that record one event.
#pragma once

#include <optional>

#include "agent/journal/journal.hpp"
#include "cli/session.hpp"

namespace updagent::cli {

journal::Paths journal_paths(const Session& session);

// A journal whose warnings reach the operator when the verb is done with it.
class VerbJournal : public journal::Journal {
 public:
  VerbJournal(Session& session, journal::Journal journal);
  VerbJournal(VerbJournal&&) noexcept;
  VerbJournal& operator=(VerbJournal&&) = delete;
  ~VerbJournal();

 private:
  Session* session_;  // null once moved from
};

// Needs no write access.
base::Result<VerbJournal> open_to_read(Session& session);
base::Result<VerbJournal> open_to_write(Session& session);
// Told by supervisors, or where the database could not be written, and not imported yet.
bool events_wait(const config::Layout& layout);
// To read, with what supervisors have told since the last deployment: whoever may write imports it.
base::Result<VerbJournal> open_with_news(Session& session);
// One event outside of a deployment: its own trace.
journal::EventDraft node_event(std::string_view name, const std::string& app, journal::Json detail);

// A time as the operator writes it: "2h" (ago), "2026-08-17", RFC 3339.
base::Result<std::int64_t> parse_time(const std::string& text);

// A deployment of the app is running: its driver holds the lock.
bool driver_runs(const Session& session, const std::string& app);

}  // namespace updagent::cli
