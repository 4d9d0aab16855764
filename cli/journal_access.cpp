#include "cli/journal_access.hpp"

#include "agent/base/files.hpp"
#include "agent/deploy/driver_lock.hpp"

namespace updagent::cli {

using base::Code;
using base::Error;

// More are an error of listing: then what is in the journal is shown.
constexpr std::size_t kMaxSpoolFiles = 1'000'000;

journal::Paths journal_paths(const Session& session) {
  const config::Layout& layout = session.layout();
  return {layout.database(), layout.audit_head(), layout.spool(), layout.reserve()};
}

VerbJournal::VerbJournal(Session& session, journal::Journal journal)
    : journal::Journal(std::move(journal)), session_(&session) {}

VerbJournal::VerbJournal(VerbJournal&& other) noexcept
    : journal::Journal(static_cast<journal::Journal&&>(other)),
      session_(std::exchange(other.session_, nullptr)) {}

VerbJournal::~VerbJournal() {
  if (session_ == nullptr) return;
  for (const std::string& line : take_warnings()) session_->warning(line);
}

base::Result<VerbJournal> open_to_read(Session& session) {
  if (!base::exists(session.layout().database()))
    return Error(Code::not_found, "nothing was ever deployed here: there is no '" +
                                      session.layout().database() + "'")
        .hint("updagent apply SOURCE makes it; --root DIR looks elsewhere");
  // nothing is written, so no name is needed: a broken node.toml hides no log
  UPD_ASSIGN(journal::Journal journal,
             journal::Journal::open(journal_paths(session), "", journal::Journal::Mode::read_only));
  return VerbJournal(session, std::move(journal));
}

base::Result<VerbJournal> open_to_write(Session& session) {
  UPD_ASSIGN(const config::Settings settings, session.settings());
  UPD_ASSIGN(journal::Journal journal,
             journal::Journal::open(journal_paths(session), settings.node_name,
                                    journal::Journal::Mode::read_write, settings.audit_group));
  return VerbJournal(session, std::move(journal));
}

bool events_wait(const config::Layout& layout) {
  if (!base::exists(layout.spool())) return false;
  const auto names = base::list_directory(layout.spool(), kMaxSpoolFiles);
  return !names || !names->empty();
}

base::Result<VerbJournal> open_with_news(Session& session) {
  const auto waiting = base::list_directory(session.layout().spool(), kMaxSpoolFiles);
  if (!waiting || waiting->empty()) return open_to_read(session);
  auto writing = open_to_write(session);
  if (writing) return writing;
  if (writing.error().code() == Code::config_invalid)
    session.warning(writing.error().line() + ": what supervisors told last is not in here");
  return open_to_read(session);
}

journal::EventDraft node_event(std::string_view name, const std::string& app,
                               journal::Json detail) {
  journal::EventDraft event;
  event.trace_id = journal::new_trace_id();
  event.span_id = journal::new_span_id();
  event.app = app;
  event.event = name;
  event.status = "success";
  event.timestamp_us = base::wall_now_us();
  event.actor = actor_of_this_process();
  event.detail = std::move(detail);
  return event;
}

base::Result<std::int64_t> parse_time(const std::string& text) {
  if (const auto ago = base::parse_duration(text)) return base::wall_now_us() - ago->count() * 1000;
  if (const auto point = base::parse_rfc3339(text)) return *point;
  return Error(Code::usage, "this is no time")
      .expected("a duration back from now (30m, 2h, 7d), a date, or RFC 3339")
      .got("'" + text + "'");
}

bool driver_runs(const Session& session, const std::string& app) {
  return deploy::is_driven(session.layout(), app);
}

}  // namespace updagent::cli
