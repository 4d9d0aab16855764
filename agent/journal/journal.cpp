#include "agent/journal/journal.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "agent/base/files.hpp"
#include "agent/journal/access.hpp"
#include "agent/journal/event_names.hpp"
#include "agent/journal/head.hpp"
#include "agent/journal/import.hpp"
#include "agent/journal/journal_impl.hpp"
#include "agent/journal/migrations.hpp"
#include "agent/journal/paths.hpp"
#include "agent/journal/reserve.hpp"

namespace updagent::journal {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::Status;

constexpr mode_t kStateMode = 0755;       // services and the audit group pass through it
constexpr std::size_t kMaxWarnings = 16;  // a long-lived agent must not collect them without end

Error no_journal(const std::string& path) {
  return Error(Code::not_found, "there is no journal at '" + path + "' yet")
      .hint("the first deployment makes it; with another root give --root DIR");
}

Status must_exist(const std::string& path) {
  struct stat about{};
  if (::stat(path.c_str(), &about) == 0) return base::ok();
  if (errno == ENOENT || errno == ENOTDIR) return no_journal(path);
  return Error(base::system_error(errno, "cannot look at '" + path + "'"))
      .hint("run it as root, or as a member of the group that [audit] group names");
}

// After an update of updagent the first who looks at the journal may be a reader.
Status bring_up_to_date(const Paths& paths, base::Milliseconds busy_timeout) {
  auto writing = Database::open(paths.database, Database::Access::read_write, busy_timeout);
  Status migrated =
      writing ? migrate(*writing, paths, busy_timeout) : Status(std::move(writing).error());
  if (migrated) return migrated;
  return Error(Code::journal_unusable,
               "the journal is an older updagent's: " + migrated.error().line())
      .hint("once as root: updagent status");
}

Result<Database> open_to_read(const Paths& paths, base::Milliseconds busy_timeout) {
  UPD_TRY(must_exist(paths.database));
  UPD_ASSIGN(Database database,
             Database::open(paths.database, Database::Access::read_only, busy_timeout));
  UPD_ASSIGN(const SchemaState state, read_schema_state(database, paths.database));
  if (state.version == 0) return no_journal(paths.database);  // its maker is not done
  if (state.version < own_schema_version()) UPD_TRY(bring_up_to_date(paths, busy_timeout));
  return database;
}

Status make_state_directory(const std::string& path) {
  Status made = base::make_directories(path, kStateMode);
  if (made || made.error().code() != Code::io_error) return made;
  return Error(Code::root_not_writable, made.error().message())
      .hint("run it with sudo, or give --root DIR");
}

Result<Database> open_to_write(const Paths& paths, base::Milliseconds busy_timeout) {
  UPD_TRY(make_state_directory(directory_of(paths.database)));
  UPD_TRY(make_database_file(paths.database));
  UPD_ASSIGN(Database database,
             Database::open(paths.database, Database::Access::read_write, busy_timeout));
  UPD_TRY(migrate(database, paths, busy_timeout));
  return database;
}

}  // namespace

// It is made before the first event and only ever replaced: whoever took it away may have taken
// events with it. Said once, in the chain, before a new one covers it up.
Status Journal::Impl::note_missing_head() {
  if (base::exists(paths.head)) return base::ok();
  UPD_ASSIGN(const HeadProof newest, newest_event(database));
  if (newest.count == 0) return base::ok();
  EventDraft event;
  event.trace_id = new_trace_id();
  event.span_id = new_span_id();
  event.event = kHeadMissing;
  event.status = "failure";
  event.actor = kJournalActor;
  event.timestamp_us = base::wall_now_us();
  event.detail = {{"path", paths.head}, {"count", newest.count}, {"hash", newest.hash.hex()}};
  UPD_ASSIGN(Transaction transaction, begin_write());
  UPD_ASSIGN(ChainWriter chain, ChainWriter::start(database, node_name));
  UPD_TRY(chain.append(event));
  warn(Error(Code::damaged, "'" + paths.head +
                                "' was missing: events after the newest "
                                "one that is left may be missing, too")
           .hint("updagent log verify --head, with a head that was kept elsewhere"));
  return commit(std::move(transaction));
}

Journal::Journal(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Journal::Journal(Journal&&) noexcept = default;
Journal& Journal::operator=(Journal&&) noexcept = default;
Journal::~Journal() = default;

Result<Journal> Journal::open(const Paths& paths, const std::string& node_name, Mode mode,
                              const std::string& group, base::Milliseconds busy_timeout) {
  if (mode == Mode::read_only) {
    UPD_ASSIGN(Database database, open_to_read(paths, busy_timeout));
    return Journal(
        std::unique_ptr<Impl>(new Impl{paths, node_name, mode, std::move(database), {}, true, {}}));
  }
  UPD_ASSIGN(Database database, open_to_write(paths, busy_timeout));
  Journal journal(
      std::unique_ptr<Impl>(new Impl{paths, node_name, mode, std::move(database), {}, true, {}}));
  Impl& impl = *journal.impl_;
  const std::string folder = directory_of(paths.database);
  if (auto swept = base::remove_dead_temporaries(folder); !swept) impl.warn(swept.error());
  if (auto shared = share_with_group(paths.database, group); !shared) impl.warn(shared.error());
  UPD_TRY(impl.note_missing_head());
  UPD_TRY(import_spool(impl));
  if (auto kept = keep_reserve(paths.reserve); !kept) impl.warn(kept.error());
  return journal;
}

Status Journal::record(std::span<const EventDraft> events, const DeploymentRow* deployment,
                       const ReleaseRow* release, const AppRow* app) {
  UPD_ASSIGN(Transaction transaction, impl_->begin_write());
  UPD_ASSIGN(ChainWriter chain, ChainWriter::start(impl_->database, impl_->node_name));
  for (const EventDraft& event : events) UPD_TRY(chain.append(event));
  UPD_TRY(store_rows(impl_->database, {deployment, release, app}, {base::wall_now_us(), false}));
  return impl_->commit(std::move(transaction));
}

Status Journal::hold(const EventDraft& event, const AppRow& row) {
  UPD_ASSIGN(Transaction transaction, impl_->begin_write());
  UPD_ASSIGN(ChainWriter chain, ChainWriter::start(impl_->database, impl_->node_name));
  UPD_TRY(chain.append(event));
  UPD_TRY(store_hold(impl_->database, row));
  return impl_->commit(std::move(transaction));
}

Status Journal::wish_stopped(const EventDraft& event, const AppRow& row) {
  UPD_ASSIGN(Transaction transaction, impl_->begin_write());
  UPD_ASSIGN(ChainWriter chain, ChainWriter::start(impl_->database, impl_->node_name));
  UPD_TRY(chain.append(event));
  UPD_TRY(store_stop_wish(impl_->database, row));
  return impl_->commit(std::move(transaction));
}

Result<HeadProof> Journal::head() {
  return newest_event(impl_->database);
}

void Journal::wait_at_most(base::Milliseconds busy_timeout) {
  impl_->database.set_busy_timeout(busy_timeout);
  impl_->waits_for_head = false;
}

std::vector<std::string> Journal::take_warnings() {
  return std::exchange(impl_->warnings, {});
}

Result<Transaction> Journal::Impl::begin_write() {
  if (mode == Mode::read_only)
    return Error(Code::internal, "the journal '" + paths.database + "' was opened for reading");
  if (database.moved())
    return Error(Code::journal_unusable, "the journal '" + paths.database + "' was moved away")
        .hint("run the command again: it opens the new one");
  return Transaction::begin_immediate(database);
}

Status Journal::Impl::commit(Transaction transaction) {
  UPD_TRY(transaction.commit());
  auto advanced = advance_head(paths.head, database, waits_for_head);
  if (!advanced) warn(advanced.error());
  return base::ok();
}

void Journal::Impl::warn(const Error& error) {
  std::string line = error.line();
  if (warnings.size() < kMaxWarnings && std::ranges::find(warnings, line) == warnings.end())
    warnings.push_back(std::move(line));
}

}  // namespace updagent::journal
