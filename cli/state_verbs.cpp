// releases, hold, remove: what is kept here, keeping it or removing it.
#include <sys/stat.h>

#include <memory>

#include "agent/base/file_lock.hpp"
#include "agent/base/files.hpp"
#include "agent/base/text.hpp"
#include "agent/deploy/driver_lock.hpp"
#include "agent/deploy/node.hpp"
#include "agent/deploy/supervise.hpp"
#include "agent/deploy/unit.hpp"
#include "agent/store/store.hpp"
#include "cli/journal_access.hpp"
#include "cli/verbs.hpp"

namespace updagent::cli {
namespace {

using base::Code;
using base::Error;
using base::Exit;

Exit run_releases(Session& session, const std::string& app) {
  const auto store = store::AppStore::open(session.layout().app(app), app, false);
  if (!store) return session.fail(store.error());
  auto journal = open_to_read(session);
  if (!journal) return session.fail(journal.error());
  const auto rows = journal->releases(app);
  const auto links = store->links();
  if (!rows) return session.fail(rows.error());
  if (!links) return session.fail(links.error());
  Json list = Json::array();
  for (const journal::ReleaseRow& row : *rows) {
    if (row.removed || !store->has(row.version)) continue;
    const bool current = links->current == row.version;
    list.push_back({{"version", row.version},
                    {"state", journal::release_state_name(row.state)},
                    {"digest", row.digest},
                    {"size_bytes", row.size_bytes},
                    {"installed_at", base::format_rfc3339(row.installed_us)},
                    {"trace_id", row.trace_id},
                    {"current", current},
                    {"committed", links->committed == row.version}});
    std::string version = row.version;
    version.resize(std::max<std::size_t>(version.size(), 14), ' ');
    std::string state(journal::release_state_name(row.state));
    state.resize(7, ' ');
    std::string size = base::human_bytes(row.size_bytes);
    size.insert(0, size.size() < 9 ? 9 - size.size() : 0, ' ');
    std::string line = (current ? "* " : "  ") + version;
    line.append(" ").append(state).append(size);
    line += "  " + row.digest.substr(0, 12) + "  " +
            base::format_rfc3339(row.installed_us).substr(0, 19) + "Z  trace " + row.trace_id;
    session.print(line);
  }
  session.document({{"app", app}, {"releases", list}});
  if (list.empty()) session.print("no release of '" + app + "' is kept here");
  return Exit::done;
}

struct HoldOptions {
  std::string app;
  bool off = false;
};

Exit run_hold(Session& session, const HoldOptions& options) {
  if (!release::is_app_name(options.app))
    return session.fail(Error(Code::usage, "this is no app name").got("'" + options.app + "'"));
  const auto store = store::AppStore::open(session.layout().app(options.app), options.app, false);
  if (!store) return session.fail(store.error());
  const base::Status writable = deploy::prepare_root(session.layout());
  if (!writable) return session.fail(writable.error());
  auto journal = open_to_write(session);
  if (!journal) return session.fail(journal.error());
  const auto known = journal->app(options.app);
  if (!known) return session.fail(known.error());
  journal::AppRow row = known->value_or(journal::AppRow());
  row.app = options.app;
  row.held = !options.off;
  row.held_by = options.off ? "" : actor_of_this_process();
  row.held_us = options.off ? 0 : base::wall_now_us();
  const journal::EventDraft event =
      node_event(options.off ? "app.released" : "app.held", options.app, journal::Json::object());
  const base::Status recorded = journal->hold(event, row);
  if (!recorded) return session.fail(recorded.error());
  session.document({{"app", options.app}, {"held", row.held}});
  session.print(options.app +
                (options.off ? " is no longer held" : " is held: apply refuses until hold --off"));
  return Exit::done;
}

struct RemoveOptions {
  std::string app;
  std::string version;
  bool data = false;
};

base::Status record_removal(journal::Journal& journal, const std::string& app,
                            const std::string& version) {
  UPD_ASSIGN(const auto rows, journal.releases(app));
  const journal::EventDraft event = node_event("release.removed", app, {{"version", version}});
  for (journal::ReleaseRow row : rows) {
    if (row.version != version || row.removed) continue;
    row.removed = true;
    return journal.record(std::span(&event, 1), nullptr, &row);
  }
  return journal.record(std::span(&event, 1));
}

base::Status remove_one(journal::Journal& journal, store::AppStore& store,
                        const std::string& version) {
  if (!store.has(version))
    return Error(Code::not_found,
                 "release " + version + " of '" + store.name() + "' is not kept here")
        .hint("updagent releases " + store.name());
  UPD_ASSIGN(const bool used, store::in_use(store.path(version)));
  if (used)
    return Error(Code::busy, "a process still uses " + store.path(version))
        .hint("updagent status " + store.name() + " shows what runs");
  UPD_TRY(store.remove(version));
  return record_removal(journal, store.name(), version);
}

// No supervisor is left (one may be idle), no boot starts one, and nobody wants it stopped any
// more.
base::Status forget_service(Session& session, journal::Journal& journal, const std::string& app) {
  if (auto client = deploy::connect_supervisor(session.layout(), app); client)
    if (const auto stopped = client->ask("stop"); !stopped)
      session.warning("the supervisor: " + stopped.error().line() + ", ignoring");
  if (deploy::runs_as_unit(session.layout()))
    if (const base::Status disabled = deploy::disable_unit(app); !disabled)
      session.warning(disabled.error().line() + ", ignoring");
  UPD_ASSIGN(auto row, journal.app(app));
  if (!row || !row->stopped) return base::ok();
  row->stopped = false;
  row->stopped_by.clear();
  row->stopped_us = 0;
  return journal.wish_stopped(node_event("app.started", app, {{"removed", true}}), *row);
}

base::Status remove_app(Session& session, journal::Journal& journal, store::AppStore& store,
                        bool data) {
  UPD_ASSIGN(const auto versions, store.versions());
  for (const std::string& version : versions) {
    UPD_ASSIGN(const bool used, store::in_use(store.path(version)));
    if (used)
      return Error(Code::busy, "a process still uses " + store.path(version))
          .hint("updagent stop " + store.name() + " ends its service");
  }
  // current first: nobody finds a tree that is half gone through it
  UPD_TRY(store.set_current(std::nullopt));
  UPD_TRY(store.set_committed(std::nullopt));
  for (const std::string& version : versions) {
    UPD_TRY(store.remove(version));
    UPD_TRY(record_removal(journal, store.name(), version));
  }
  const journal::EventDraft event = node_event("app.removed", store.name(), {{"data", data}});
  UPD_TRY(journal.record(std::span(&event, 1)));
  UPD_TRY(forget_service(session, journal, store.name()));
  for (const std::string folder : {"releases", "incoming", "cache"})
    UPD_TRY(base::remove_tree(store.directory_fd(), folder));
  if (!data) {
    if (base::exists(store.directory() + "/data"))
      session.note("kept: " + store.directory() + "/data (--data removes it, too)");
    return base::ok();
  }
  UPD_ASSIGN(const base::UniqueFd apps, base::open_directory(session.layout().apps()));
  return base::remove_tree(apps.get(), store.name());
}

// After `remove APP` only data/ is left, which is no installed app any more.
base::Result<bool> remove_leftover_data(Session& session, const RemoveOptions& options) {
  const std::string folder = session.layout().app(options.app);
  if (!options.data || !release::is_app_name(options.app) || !base::exists(folder + "/data") ||
      base::exists(folder + "/releases"))
    return false;
  UPD_ASSIGN(const auto lock, deploy::take_driver_lock(session.layout(), options.app,
                                                       base::Milliseconds(0), nullptr));
  UPD_ASSIGN(VerbJournal journal, open_to_write(session));
  const journal::EventDraft event = node_event("app.removed", options.app, {{"data", true}});
  UPD_TRY(journal.record(std::span(&event, 1)));
  UPD_ASSIGN(const base::UniqueFd apps, base::open_directory(session.layout().apps()));
  UPD_TRY(base::remove_tree(apps.get(), options.app));
  return true;
}

Exit run_remove(Session& session, const RemoveOptions& options) {
  const auto act = [&]() -> base::Status {
    UPD_TRY(deploy::prepare_root(session.layout()));
    UPD_ASSIGN(const bool only_data, remove_leftover_data(session, options));
    if (only_data) return base::ok();
    UPD_ASSIGN(store::AppStore store,
               store::AppStore::open(session.layout().app(options.app), options.app, false));
    UPD_ASSIGN(const auto lock, deploy::take_driver_lock(session.layout(), options.app,
                                                         base::Milliseconds(0), nullptr));
    UPD_ASSIGN(VerbJournal journal, open_to_write(session));
    UPD_ASSIGN(const auto open, journal.open_deployment(options.app));
    if (open)
      return Error(Code::busy, "a deployment of '" + options.app + "' was left open")
          .hint("updagent recover " + options.app);
    return options.version.empty() ? remove_app(session, journal, store, options.data)
                                   : remove_one(journal, store, options.version);
  };
  const base::Status done = act();
  if (!done) return session.fail(done.error());
  session.document({{"app", options.app},
                    {"version", options.version.empty() ? Json(nullptr) : Json(options.version)},
                    {"removed", true}});
  session.print("removed  " + options.app + (options.version.empty() ? "" : " " + options.version));
  return Exit::done;
}

}  // namespace

Run setup_releases(CLI::App& command) {
  const auto app = std::make_shared<std::string>();
  command.add_option("APP", *app, "the app")->required();
  return [app](Session& session) { return run_releases(session, *app); };
}

Run setup_hold(CLI::App& command) {
  const auto options = std::make_shared<HoldOptions>();
  command.add_option("APP", options->app, "the app")->required();
  command.add_flag("--off", options->off, "let it be updated again");
  return [options](Session& session) { return run_hold(session, *options); };
}

Run setup_remove(CLI::App& command) {
  const auto options = std::make_shared<RemoveOptions>();
  command.add_option("APP", options->app, "the app")->required();
  command.add_option("--version", options->version, "only this kept release")->type_name("VERSION");
  command.add_flag("--data", options->data, "its data/ as well");
  return [options](Session& session) { return run_remove(session, *options); };
}

}  // namespace updagent::cli
