#include "cli/standing.hpp"

#include <unistd.h>

#include <cerrno>

#include "agent/base/files.hpp"
#include "agent/deploy/policy.hpp"
#include "agent/deploy/result.hpp"
#include "cli/journal_access.hpp"

namespace updagent::cli {
namespace {

constexpr std::size_t kMaxApps = 10'000;

std::string or_nothing(const std::string& version) {
  return version.empty() ? "nothing" : version;
}

constexpr std::size_t kMaxCommBytes = 64;  // the kernel keeps 16

// Readers of the log may not open the lock: who holds it would have to let go of it for them.
bool may_not_look(const Session& session, const std::string& app) {
  return ::access(session.layout().driver_lock(app).c_str(), R_OK) != 0 && errno == EACCES;
}

// For those who may not look: whether the process that the row names lives, and is one of ours.
bool driver_lives(const journal::DeploymentRow& open) {
  if (open.boot_id != base::boot_id()) return false;
  const auto comm =
      base::read_file("/proc/" + std::to_string(open.driver_pid) + "/comm", kMaxCommBytes);
  return comm && comm->starts_with("updagent");
}

// Who sees neither lock nor log can't tell that nobody drives, and calls no person.
bool is_driven(const Session& session, const Standing& standing, bool log_is_read) {
  if (driver_runs(session, standing.app)) return true;
  if (!may_not_look(session, standing.app)) return false;
  return !log_is_read || (standing.open && driver_lives(*standing.open));
}

}  // namespace

bool Standing::needs_person() const {
  return !running && (current != committed || !failed_trace.empty());
}

std::string Standing::problem() const {
  if (open)
    return running ? ""
                   : "left open: " + open->to_version + ", stage " + open->state + ", trace " +
                         open->trace_id;
  if (!needs_person()) return "";
  std::string text = "a person is needed: current is " + or_nothing(current) + ", committed is " +
                     or_nothing(committed);
  if (!failed_trace.empty()) text += "; updagent log show " + failed_trace + " tells why";
  return text;
}

// After a failed way back recover leaves everything as it is: only these two lead out.
std::string Standing::way_out() const {
  if (open || failed_trace.empty()) return "updagent recover " + app;
  const std::string target = current != committed ? committed : previous;
  if (target.empty()) return "apply a newer, mended release";
  return "apply a newer, mended release; or updagent rollback " + app + " --to " + target +
         " (with --force past a rollback_floor, or to a release that failed)";
}

Standing standing_of(const Session& session, journal::Journal* journal,
                     const store::AppStore& store) {
  Standing standing;
  standing.app = store.name();
  if (const auto links = store.links()) {
    standing.current = links->current.value_or("");
    standing.committed = links->committed.value_or("");
  }
  std::vector<journal::ReleaseRow> releases;
  if (journal != nullptr) {
    if (auto found = journal->releases(standing.app)) releases = std::move(*found);
    if (auto found = journal->app(standing.app)) standing.row = std::move(*found);
    if (auto found = journal->open_deployment(standing.app)) standing.open = std::move(*found);
    if (auto found = journal->last_deployment(standing.app);
        found && *found && (*found)->ended_us > 0)
      standing.last = std::move(*found);
    const auto last = journal->last_switching_deployment(standing.app);
    if (last && *last && (*last)->outcome == deploy::outcome_name(deploy::Outcome::rollback_failed))
      standing.failed_trace = (*last)->trace_id;
  }
  standing.previous =
      deploy::previous_release(releases, standing.current, standing.row).value_or("");
  standing.running = is_driven(session, standing, journal != nullptr);
  return standing;
}

base::Result<std::vector<std::string>> installed_apps(const Session& session) {
  if (!base::exists(session.layout().apps())) return std::vector<std::string>();
  UPD_ASSIGN(std::vector<std::string> names,
             base::list_directory(session.layout().apps(), kMaxApps));
  std::erase_if(names, [&session](const std::string& name) {
    return !release::is_app_name(name) || !base::exists(session.layout().releases(name));
  });
  return names;
}

}  // namespace updagent::cli
