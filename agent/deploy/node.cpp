#include "agent/deploy/node.hpp"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>

#include "agent/base/files.hpp"

namespace updagent::deploy {
namespace {

// A rollback waits this long for another writer of the database, then goes on without it.
constexpr base::Milliseconds kShortJournalWait{2'000};
constexpr base::Milliseconds kJournalWait{10'000};
constexpr std::size_t kMaxApps = 10'000;  // folders of apps/ that a listing takes

}  // namespace

base::Status prepare_root(const config::Layout& layout) {
  for (const std::string& path : {layout.state, layout.runtime, layout.apps()}) {
    const base::Status made = base::make_directories(path, 0755);
    if (made && ::access(path.c_str(), W_OK | X_OK) == 0) continue;
    if (made || errno == EACCES || errno == EROFS || errno == EPERM)
      return base::Error(base::Code::root_not_writable, "this user can't write '" + path + "'")
          .hint("run it with sudo, or give a root folder of your own: --root DIR");
    return made;
  }
  return base::ok();
}

base::Result<journal::Journal> open_journal(const Context& context,
                                            const config::Settings& settings) {
  return journal::Journal::open(context.journal_paths(), settings.node_name,
                                journal::Journal::Mode::read_write, settings.audit_group,
                                kJournalWait);
}

std::optional<journal::Journal> open_journal_or_warn(const Context& context,
                                                     const config::Settings& settings) {
  auto journal = journal::Journal::open(context.journal_paths(), settings.node_name,
                                        journal::Journal::Mode::read_write, settings.audit_group,
                                        kShortJournalWait);
  if (journal) return std::move(*journal);
  context.observer->warning(journal.error().line() + ": going on without it, events wait in " +
                            context.layout.spool());
  return std::nullopt;
}

base::Result<std::vector<std::string>> apps_on_disk(const Context& context) {
  if (!base::exists(context.layout.apps())) return std::vector<std::string>();
  UPD_ASSIGN(std::vector<std::string> names, base::list_directory(context.layout.apps(), kMaxApps));
  // after `remove` only data/ is left of an app
  std::erase_if(names, [&context](const std::string& name) {
    return !release::is_app_name(name) || !base::exists(context.layout.releases(name));
  });
  return names;
}

void show_warnings(const Context& context, journal::Journal& journal) {
  for (const std::string& line : journal.take_warnings()) context.observer->warning(line);
}

config::Settings settings_or_defaults(const Context& context, const std::string& app) {
  auto settings = config::load(context.layout, context.config_file, app);
  if (settings) return std::move(*settings);
  context.observer->warning(settings.error().line() + ", going on with the defaults");
  return config::defaults();
}

}  // namespace updagent::deploy
