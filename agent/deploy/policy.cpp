#include "agent/deploy/policy.hpp"

#include <algorithm>

#include "agent/base/text.hpp"
#include "agent/release/rollout_words.hpp"
namespace updagent::deploy {
namespace {

using base::Code;
using base::Error;

bool below(const std::string& version, const std::string& mark) {
  const auto a = release::parse_semver(version);
  const auto b = release::parse_semver(mark);
  return a && b && release::precedence(*a, *b) < 0;
}

base::Status check_expected_app(const trust::Statement& offered, const std::string& expected) {
  if (expected.empty() || offered.app == expected) return base::ok();
  return Error(Code::app_mismatch, "this is a release of another app")
      .expected("'" + expected + "'")
      .got("'" + offered.app + "'")
      .hint("check the URL, or leave --app out");
}

// Same version, other contents: also for trees that were removed since, their row stays. The row
// wins over the tree: one that differs from it was damaged, and may be mended by the same release.
base::Status check_conflict(const trust::Statement& offered, const KnownApp& known) {
  std::string digest;
  for (const journal::ReleaseRow& row : known.releases)
    if (row.version == offered.version && digest.empty()) digest = row.digest;
  if (known.installed_digest && digest.empty()) digest = known.installed_digest->hex();
  if (digest.empty() || digest == offered.manifest_digest.hex()) return base::ok();
  return Error(Code::version_conflict,
               "'" + offered.app + "' " + offered.version + " is known here with other contents")
      .expected("manifest " + digest.substr(0, 16))
      .got(offered.manifest_digest.hex().substr(0, 16))
      .hint("publish a new version: a version names one set of files for ever");
}

base::Status check_failed_before(const trust::Statement& offered, const KnownApp& known,
                                 bool retry) {
  if (retry) return base::ok();
  for (const journal::ReleaseRow& row : known.releases) {
    if (row.version != offered.version || row.state != journal::ReleaseState::failed) continue;
    return Error(Code::failed_before,
                 "'" + offered.app + "' " + offered.version + " was rolled back here before")
        .hint("updagent log show " + row.trace_id + " tells why; --retry tries it again");
  }
  return base::ok();
}

base::Status check_downgrade(const trust::Statement& offered, const KnownApp& known, bool allow) {
  // a database that was lost took the mark with it: the link still tells what was committed
  std::string mark = known.links.committed.value_or("");
  if (known.app && !known.app->high_water.empty()) mark = known.app->high_water;
  if (allow || mark.empty() || !below(offered.version, mark)) return base::ok();
  return Error(Code::downgrade, "refusing to install an older release of '" + offered.app + "'")
      .expected("at least " + mark + ", which was committed here")
      .got(offered.version)
      .hint("updagent rollback " + offered.app + " --to " + offered.version +
            " if it is still kept, or --allow-downgrade");
}

}  // namespace

base::Status check_held(const journal::AppRow& app) {
  if (!app.held) return base::ok();
  return Error(Code::held, "'" + app.app + "' is held at its version by " + app.held_by +
                               " since " + base::format_rfc3339(app.held_us))
      .hint("updagent hold " + app.app + " --off");
}

base::Result<Admission> admit(const trust::Statement& offered, const KnownApp& known,
                              const Permissions& permissions) {
  UPD_TRY(check_expected_app(offered, permissions.expected_app));
  UPD_TRY(check_conflict(offered, known));
  const bool installed =
      known.installed_digest && *known.installed_digest == offered.manifest_digest;
  if (installed && known.links.current == offered.version &&
      known.links.committed == offered.version)
    return Admission::unchanged;
  if (known.app) UPD_TRY(check_held(*known.app));
  UPD_TRY(check_failed_before(offered, known, permissions.retry));
  UPD_TRY(check_downgrade(offered, known, permissions.allow_downgrade));
  return installed ? Admission::reuse : Admission::deploy;
}

base::Status check_manifest(const release::Manifest& manifest, const trust::Statement& statement,
                            const std::string& agent_version, const std::string& machine) {
  const std::string version = manifest.version.text();
  if (manifest.app != statement.app || version != statement.version)
    return Error(Code::statement_mismatch, "statement and manifest name different releases")
        .expected(statement.app + " " + statement.version)
        .got(manifest.app + " " + version)
        .hint("this artifact was put together wrongly: pack it again");
  if (!manifest.needs.agent.empty()) {
    UPD_ASSIGN(const release::SemVer agent, release::parse_semver(agent_version));
    UPD_ASSIGN(const bool fits, release::satisfies(agent, manifest.needs.agent));
    if (!fits)
      return Error(Code::requires_agent, "this release needs another updagent")
          .expected(manifest.needs.agent)
          .got(agent_version)
          .hint("update updagent on this node first");
  }
  if (!manifest.needs.arch.empty() && manifest.needs.arch != machine)
    return Error(Code::requires_arch, "this release is for another machine type")
        .expected(manifest.needs.arch)
        .got(machine);
  return base::ok();
}

base::Result<std::string> user_for(const release::Manifest& manifest,
                                   const config::AppSettings& settings, bool we_are_root,
                                   const std::string& own_user,
                                   const std::string& app_config_path) {
  if (settings.user) return settings.user == own_user ? std::string() : *settings.user;
  const std::string& asked = manifest.user;
  if (!we_are_root) {
    if (asked.empty() || asked == own_user) return std::string();
    return Error(Code::privilege, "the release wants its commands to run as '" + asked + "'")
        .expected("'" + own_user + "', the user that runs updagent")
        .got("'" + asked + "'")
        .hint("run updagent as root, or set [run] user = \"" + own_user + "\" in " +
              app_config_path);
  }
  if (asked.empty()) return settings.default_user;
  if (asked == settings.default_user) return asked;
  if (asked == "root") {
    if (settings.allow_root) return std::string();
    return Error(Code::privilege, "the release wants its commands to run as root")
        .expected("an unprivileged user")
        .got("'root'")
        .hint("allow it with [allow] root = true in " + app_config_path);
  }
  const auto& allowed = settings.allowed_users;
  if (std::find(allowed.begin(), allowed.end(), asked) != allowed.end() ||
      std::find(allowed.begin(), allowed.end(), "*") != allowed.end())
    return asked;
  return Error(Code::privilege, "the release wants its commands to run as '" + asked + "'")
      .expected(allowed.empty() ? "'" + settings.default_user + "'"
                                : "one of the users that this node allows")
      .got("'" + asked + "'")
      .hint("allow it with [allow] users = [\"" + asked + "\"] in " + app_config_path);
}

std::optional<std::string> previous_release(const std::vector<journal::ReleaseRow>& releases,
                                            const std::string& current,
                                            const std::optional<journal::AppRow>& app) {
  std::optional<std::string> best;
  for (const journal::ReleaseRow& row : releases) {
    if (row.removed || row.state != journal::ReleaseState::good || row.version == current) continue;
    // The one that was replaced by the current wins, whatever its number (--allow-downgrade).
    if (app && row.version == app->previous) return row.version;
    if (!current.empty() && !below(row.version, current)) continue;
    if (!best || below(*best, row.version)) best = row.version;
  }
  return best;
}

base::Status check_floor(const release::Manifest& from, const std::string& target) {
  if (!from.needs.rollback_floor) return base::ok();
  const std::string floor = from.needs.rollback_floor->text();
  if (!below(target, floor)) return base::ok();
  return Error(Code::rollback_floor,
               target + " can't run on data that " + from.version.text() + " has touched")
      .expected("at least " + floor + ", the release's rollback_floor")
      .got(target)
      .hint("publish a fixed newer version; updagent rollback " + from.app + " --to " + target +
            " --force goes back all the same, if that release is still kept");
}

namespace {

// What the new generation is asked before it takes a connection.
void describe_preflight(const release::Preflight& preflight, std::vector<std::string>& lines) {
  if (const auto& warmup = preflight.warmup)
    lines.push_back("warm it up: " + std::to_string(warmup->count) + " times " +
                    base::join(warmup->paths, " ") + " (at most " +
                    base::format_duration(warmup->timeout) + ")");
  for (const release::Command& smoke : preflight.smoke)
    lines.push_back("try it: " + base::join(smoke.argv, " ") + " (at most " +
                    base::format_duration(smoke.timeout) + ")");
}

void describe_steps(const release::Rollout& rollout, const config::AppSettings& settings,
                    const std::string& from, std::vector<std::string>& lines) {
  if (rollout.steps.empty())
    lines.push_back("give it all new connections; " + from + " stays until the commit");
  for (const release::Step& step : rollout.steps) {
    std::string line = "give it " + std::to_string(step.percent) + " % of new connections for " +
                       base::format_duration(std::min(step.duration, settings.max_watch));
    if (step.min_connections > 0)
      line += " and until it has had " + std::to_string(step.min_connections) + " (at most " +
              base::format_duration(std::min(rollout.step_patience, settings.max_step_patience)) +
              " more)";
    lines.push_back(std::move(line));
  }
}

std::string describe_gate(const release::Gate& gate) {
  std::string line =
      "gate '" + gate.name + "' (" + std::string(release::gate_type_name(gate.type)) + ")";
  if (!gate.condition.empty()) line += ": " + gate.condition;
  if (gate.type == release::GateType::probe) line += ": probe '" + gate.probe + "'";
  if (gate.type == release::GateType::exec) line += ": " + base::join(gate.command.argv, " ");
  line += ", fails after " + std::to_string(gate.failures) + " in a row";
  if (gate.type == release::GateType::probe) return line;
  return line + ", every " + base::format_duration(gate.window);
}

}  // namespace

std::vector<std::string> describe_plan(const release::Manifest& manifest, const std::string& from,
                                       const std::string& user, const config::AppSettings& settings,
                                       const release::ResolvedService* run) {
  std::vector<std::string> lines;
  const std::string version = manifest.version.text();
  const auto hook = [&lines](std::string_view name,
                             const std::optional<release::Command>& command) {
    if (!command) return;
    std::string line = "run " + std::string(name) + ":";
    for (const std::string& word : command->argv) line += " " + word;
    lines.push_back(line + " (at most " + base::format_duration(command->timeout) + ")");
  };
  if (manifest.hooks.pre_upgrade || manifest.hooks.post_switch || manifest.hooks.post_commit)
    lines.push_back("hooks and exec probes run as '" + (user.empty() ? "the caller" : user) + "'");
  hook("pre_upgrade", manifest.hooks.pre_upgrade);
  const bool hands_over = manifest.strategy == release::kStrategyHandoff;
  if (run != nullptr) {
    std::string line = hands_over ? "start it" : "replace the service";
    if (hands_over && !from.empty()) line += " beside " + from;
    line += run->user.empty() ? "" : " as '" + run->user + "'";
    for (const release::Listener& listener : run->service.listeners)
      line += ", " + listener.name + " at " + listener.address;
    lines.push_back(std::move(line));
    describe_preflight(manifest.preflight, lines);
  }
  lines.push_back(from.empty() ? "switch current to " + version + " (the first release)"
                               : "switch current from " + from + " to " + version);
  hook("post_switch", manifest.hooks.post_switch);
  if (run != nullptr && hands_over && !from.empty())
    describe_steps(manifest.rollout, settings, from, lines);
  for (const release::Probe& probe : manifest.probes)
    lines.push_back("probe '" + probe.name + "' must pass " + std::to_string(probe.successes) +
                    " in a row, every " + base::format_duration(probe.interval));
  for (const release::Gate& gate : manifest.gates) lines.push_back(describe_gate(gate));
  const base::Milliseconds watch = std::min(manifest.rollout.watch, settings.max_watch);
  if (watch.count() > 0) lines.push_back("watch for " + base::format_duration(watch));
  lines.push_back("commit " + version);
  hook("post_commit", manifest.hooks.post_commit);
  lines.push_back("keep the newest " + std::to_string(settings.keep.value_or(manifest.keep)) +
                  " good releases");
  return lines;
}

}  // namespace updagent::deploy
