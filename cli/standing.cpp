#include "cli/standing.hpp"

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
    const auto last = journal->last_switching_deployment(standing.app);
    if (last && *last && (*last)->outcome == deploy::outcome_name(deploy::Outcome::rollback_failed))
      standing.failed_trace = (*last)->trace_id;
  }
  standing.previous =
      deploy::previous_release(releases, standing.current, standing.row).value_or("");
  standing.running = driver_runs(session, standing.app);
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
