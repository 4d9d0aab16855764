#include "agent/journal/import.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "agent/base/files.hpp"
#include "agent/journal/event_names.hpp"
#include "agent/journal/spool_format.hpp"

namespace updagent::journal {
namespace {

using base::Code;
using base::Result;
using base::Status;

// What a writer that was killed left behind; a living one needs milliseconds.
constexpr std::int64_t kStaleTemporaryUs = 3600LL * 1'000'000;

Result<bool> is_imported(Database& database, const std::string& name) {
  UPD_ASSIGN(Statement one, database.prepare("SELECT 1 FROM spool_imports WHERE file_name = ?"));
  one.bind(1, std::string_view(name));
  return one.next();
}

// Keeps the table as short as the directory. Only what was gone before `listed` was read is
// forgotten, and import_file looks again under the write lock: so no name is forgotten too early.
Status forget_removed(Database& database, const std::vector<std::string>& listed) {
  std::vector<std::string> gone;
  UPD_ASSIGN(Statement all, database.prepare("SELECT file_name FROM spool_imports"));
  for (;;) {
    UPD_ASSIGN(const bool row, all.next());
    if (!row) break;
    std::string name = all.text(0);
    if (!std::ranges::binary_search(listed, name)) gone.push_back(std::move(name));
  }
  UPD_ASSIGN(Statement forget, database.prepare("DELETE FROM spool_imports WHERE file_name = ?"));
  for (const std::string& name : gone) {
    forget.bind(1, std::string_view(name));
    UPD_TRY(forget.run());
  }
  return base::ok();
}

// A commit whose fsync failed was reported as failed and spooled, and may be there all the same.
Result<bool> is_recorded(Database& database, const EventDraft& event) {
  UPD_ASSIGN(Statement same,
             database.prepare("SELECT 1 FROM events WHERE trace_id = ? AND timestamp_us = ? AND "
                              "span_id = ? AND event = ? AND status = ? LIMIT 1"));
  same.bind(1, std::string_view(event.trace_id));
  same.bind(2, event.timestamp_us);
  same.bind(3, std::string_view(event.span_id));
  same.bind(4, std::string_view(event.event));
  same.bind(5, std::string_view(event.status));
  return same.next();
}

EventDraft import_note(const std::string& name, std::int64_t events, std::int64_t skipped) {
  EventDraft note;
  note.trace_id = new_trace_id();
  note.span_id = new_span_id();
  note.event = kLogImported;
  note.status = skipped == 0 ? "success" : "failure";
  note.actor = kJournalActor;
  note.detail = {{"file", name}, {"events", events}, {"skipped_lines", skipped}};
  return note;
}

Status append_content(Journal::Impl& impl, const std::string& name, const SpoolContent& content) {
  const std::string& node =
      content.header.node_name.empty() ? impl.node_name : content.header.node_name;
  UPD_ASSIGN(ChainWriter chain, ChainWriter::start(impl.database, node));
  std::int64_t joined = 0;
  for (EventDraft event : content.events) {
    UPD_ASSIGN(const bool recorded, is_recorded(impl.database, event));
    if (recorded) continue;
    event.detail["late"] = true;
    UPD_TRY(chain.append(event));
    ++joined;
  }
  UPD_TRY(chain.append(import_note(name, joined, content.skipped)));
  const Rows rows{content.deployment ? &*content.deployment : nullptr,
                  content.release ? &*content.release : nullptr,
                  content.app ? &*content.app : nullptr};
  UPD_TRY(store_rows(impl.database, rows, {content.header.written_us, true}));
  UPD_ASSIGN(Statement remember,
             impl.database.prepare("INSERT INTO spool_imports (file_name) VALUES (?)"));
  remember.bind(1, std::string_view(name));
  return remember.run();
}

Status import_file(Journal::Impl& impl, const std::string& name,
                   const std::vector<std::string>& listed) {
  const std::string path = impl.paths.spool + "/" + name;
  const auto text = base::read_file(path, kMaxSpoolBytes);
  if (!text && !base::exists(path)) return base::ok();  // another process was faster
  if (!text) return text.error();
  UPD_ASSIGN(Transaction transaction, impl.begin_write());
  if (!base::exists(path)) return base::ok();
  UPD_ASSIGN(const bool imported, is_imported(impl.database, name));
  if (!imported) {
    UPD_TRY(forget_removed(impl.database, listed));
    UPD_TRY(append_content(impl, name, parse_spool(*text)));
    UPD_TRY(impl.commit(std::move(transaction)));
  }
  UPD_ASSIGN(const base::UniqueFd directory, base::open_directory(impl.paths.spool));
  return base::remove_file_durably(directory.get(), name);
}

// Whoever asks for the app's open deployment must know that it is closed by now.
void remember_row(Journal::Impl& impl, const std::string& name) {
  const auto text = base::read_file(impl.paths.spool + "/" + name, kMaxSpoolBytes);
  if (!text) return;
  SpoolContent content = parse_spool(*text);
  if (content.deployment) impl.waiting.push_back(std::move(*content.deployment));
}

void sweep_temporary(const std::string& path) {
  struct stat about{};
  if (::lstat(path.c_str(), &about) != 0) return;
  const std::int64_t modified_us = static_cast<std::int64_t>(about.st_mtim.tv_sec) * 1'000'000;
  if (base::wall_now_us() - modified_us > kStaleTemporaryUs) ::unlink(path.c_str());
}

}  // namespace

Status import_spool(Journal::Impl& impl) {
  if (!base::exists(impl.paths.spool)) return base::ok();
  const auto listed = base::list_directory(impl.paths.spool, kMaxSpoolFiles);
  if (!listed) {
    impl.warn(listed.error());
    return base::ok();
  }
  bool full = false;
  for (const std::string& name : *listed) {
    if (name.starts_with('.')) sweep_temporary(impl.paths.spool + "/" + name);
    if (name.starts_with('.') || !name.ends_with(kSpoolSuffix)) continue;
    if (!full) {
      const Status imported = import_file(impl, name, *listed);
      if (imported) continue;
      if (imported.error().code() == Code::journal_unusable) return imported;
      impl.warn(imported.error());
      full = imported.error().code() == Code::no_space;  // the others would not fit either
    }
    remember_row(impl, name);
  }
  return base::ok();
}

}  // namespace updagent::journal
