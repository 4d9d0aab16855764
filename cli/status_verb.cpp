// status: what is here, what runs and what a deployment that is under way does.
#include <array>
#include <cstdio>
#include <memory>

#include "agent/base/files.hpp"
#include "agent/base/text.hpp"
#include "agent/deploy/node.hpp"
#include "agent/deploy/order.hpp"
#include "agent/deploy/result.hpp"
#include "agent/deploy/supervise.hpp"
#include "agent/deploy/unit.hpp"
#include "agent/store/store.hpp"
#include "cli/journal_access.hpp"
#include "cli/standing.hpp"
#include "cli/verbs.hpp"

namespace updagent::cli {
namespace {

using base::Code;
using base::Error;
using base::Exit;

Json nullable(const std::string& text) {
  return text.empty() ? Json(nullptr) : Json(text);
}

// What a boot does with a half-done deployment.
std::string boot_policy() {
  const bool systemd = base::exists("/run/systemd/system");
  if (!systemd) return "none";
  return base::exists("/etc/systemd/system/basic.target.wants/updagent-recover.service")
             ? "updagent-recover.service"
             : "none";
}

struct AppStatus {
  Json json;
  std::vector<std::string> lines;
  std::string mechanism;  // "" = nothing runs
};

void add_workers(Session& session, const Json& answer, AppStatus& status) {
  for (const Json& one : answer.value("workers", Json::array())) {
    const std::string name = one.value("name", std::string());
    const std::string version = one.value("version", std::string());
    const std::string state = one.value("state", std::string());
    const int pid = one.value("pid", 0);
    const int starts = one.value("starts", 0);
    status.json["workers"].push_back(
        {{"name", name},
         {"version", version},
         {"pid", pid},
         {"state", state},
         {"starts", starts},
         {"since", base::format_rfc3339(one.value("since_us", std::int64_t{0}))}});
    std::string line = "  worker " + base::printable(name);
    for (const std::string& part : {version, state}) line += "  " + part;
    if (pid > 0) line += ", pid " + std::to_string(pid);
    if (starts > 1) line += session.dim("  started " + std::to_string(starts) + " times");
    status.lines.push_back(std::move(line));
  }
}

std::string percent_text(double percent) {
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "%.1f %%", percent);
  return text.data();
}

// The driver tells it about once a second, from its first step on.
void add_rollout(const Json& open, AppStatus& status) {
  Json& deployment = status.json["deployment"];
  if (!open.is_object() || !deployment.is_object()) return;
  deployment["weight_percent"] = static_cast<double>(open.value("weight", 0)) / 100;
  const Json progress = open.value("progress", Json(nullptr));
  if (!progress.is_object()) return;
  const int step = progress.value("percent", 0);
  const std::string waiting_for = progress.value("waiting_for", std::string());
  std::string line = "  step " + std::to_string(step) + " %";
  if (const Json measured = progress.value("measured", Json(nullptr)); measured.is_number()) {
    const double percent = measured.get<double>() / 100;
    deployment["measured_percent"] = percent;
    line += ", measured " + percent_text(percent);
  }
  if (!waiting_for.empty()) line += ", " + base::printable(waiting_for);
  deployment["step_percent"] = step;
  deployment["paused"] = progress.value("paused", false);
  deployment["waiting_for"] = waiting_for;
  status.lines.push_back(std::move(line));
}

// What the supervisor says; without one nothing runs.
void add_generations(Session& session, const std::string& app, AppStatus& status) {
  auto client = deploy::connect_supervisor(session.layout(), app);
  if (!client && deploy::has_living_generations(session.layout(), app))
    status.lines.push_back("  " + session.bad("no supervisor runs, what it had started serves on") +
                           "\n  -> updagent start " + app);
  if (!client && client.error().code() != Code::not_found) {
    status.mechanism = "unknown";
    status.json["not_seen"] = client.error().line();
    status.lines.push_back("  what runs can't be seen: " + base::printable(client.error().line()));
  }
  if (!client) return;
  const auto answer = client->ask("status", {{"look", 1}});
  if (!answer) {
    status.lines.push_back("  " + session.bad("the supervisor: " + answer.error().line()));
    return;
  }
  status.mechanism = answer->value("mechanism", std::string("none"));
  const auto text = [&answer](const char* name) { return answer->value(name, std::string()); };
  status.json["service"] = {{"mechanism", status.mechanism},
                            {"reason", text("reason")},
                            {"supervisor_pid", answer->value("pid", 0)},
                            {"cgroups", answer->value("cgroups", false)},
                            {"cgroup_reason", text("cgroup_reason")},
                            {"problem", text("problem")},
                            {"strangers", text("strangers")}};
  if (status.mechanism == "shared")
    status.lines.push_back("  connections are shared, not steered: " +
                           base::printable(text("reason")));
  if (!text("strangers").empty())
    status.lines.push_back("  " + session.bad("strangers at its addresses: ") +
                           base::printable(text("strangers")));
  add_rollout(answer->value("deployment", Json(nullptr)), status);
  for (const Json& one : answer->value("generations", Json::array())) {
    const double percent = static_cast<double>(one.value("weight", 0)) / 100;
    status.json["generations"].push_back(
        {{"version", one.value("version", std::string())},
         {"number", one.value("number", 0)},
         {"role", one.value("role", std::string())},
         {"pid", one.value("pid", 0)},
         {"state", one.value("state", std::string())},
         {"weight_percent", percent},
         {"since", base::format_rfc3339(one.value("since_us", std::int64_t{0}))},
         {"status", one.value("status", std::string())}});
    status.lines.push_back(
        "  generation " + std::to_string(one.value("number", 0)) + "  " +
        one.value("version", std::string()) + "  " + one.value("role", std::string()) + ", " +
        one.value("state", std::string()) + ", pid " + std::to_string(one.value("pid", 0)) + "  " +
        session.dim(base::printable(one.value("status", std::string()))));
    if (one.value("state", std::string()) == "down" && !text("problem").empty())
      status.lines.push_back("    " + session.bad(base::printable(text("problem"))));
  }
  add_workers(session, *answer, status);
}

// What a boot does with the service; the unit's own state is asked, whoever changed it.
void add_boot(Session& session, const Standing& standing, AppStatus& status) {
  const std::string& app = standing.app;
  const bool stopped = standing.row && standing.row->stopped;
  if (stopped) {
    const std::string since = base::format_rfc3339(standing.row->stopped_us);
    status.json["stopped"] = {{"by", standing.row->stopped_by}, {"since", since}};
    status.lines.push_back("  stopped by " + base::printable(standing.row->stopped_by) + " since " +
                           since + "; a boot leaves it so: updagent start " + app);
  }
  if (status.json["strategy"] == "files") return;
  if (!deploy::runs_as_unit(session.layout())) {
    status.lines.push_back(session.dim(
        "  boot: nothing starts it" +
        std::string(base::exists("/run/systemd/system") ? " of a root of its own"
                                                        : ": there is no systemd") +
        "; have your init run updagent " +
        (session.layout().explicit_root ? "--root " + session.layout().state + " " : "") +
        "supervise " + app));
    return;
  }
  const auto state = deploy::unit_file_state(app);
  const std::string unit = deploy::unit_name(app);
  if (state && *state == "enabled") {
    status.json["boot"] = stopped ? "stopped" : unit;
    if (!stopped) status.lines.push_back(session.dim("  boot: " + unit + " starts it"));
    return;
  }
  status.lines.push_back("  " +
                         session.bad("boot: nothing starts it: " +
                                     (state ? unit + " is " + *state : state.error().line())));
  status.lines.push_back("  -> systemctl enable " + std::string(deploy::kRecoverUnit) + " " + unit);
}

// Why the newest release is not the one that runs is asked most of all.
void add_last(const journal::DeploymentRow& last, AppStatus& status) {
  status.json["last_deployment"] = {{"trace_id", last.trace_id},
                                    {"kind", last.kind},
                                    {"from", nullable(last.from_version)},
                                    {"to", nullable(last.to_version)},
                                    {"outcome", last.outcome},
                                    {"reason", last.reason},
                                    {"ended_at", base::format_rfc3339(last.ended_us)}};
  const bool as_asked = last.outcome == deploy::outcome_name(deploy::Outcome::committed) ||
                        last.outcome == deploy::outcome_name(deploy::Outcome::unchanged) ||
                        (last.outcome == deploy::outcome_name(deploy::Outcome::rolled_back) &&
                         last.kind == "rollback");
  if (as_asked) return;
  constexpr std::size_t kTraceDigits = 8;  // enough for log show
  status.lines.push_back("  last deployment: " + base::printable(last.to_version) + " " +
                         last.outcome + " (" + last.reason + "): updagent log show " +
                         last.trace_id.substr(0, kTraceDigits));
}

AppStatus status_of(Session& session, journal::Journal* journal, const store::AppStore& store) {
  const Standing standing = standing_of(session, journal, store);
  const std::string& current = standing.current;
  const auto manifest = current.empty()
                            ? base::Result<release::Manifest>(Error(Code::not_found, ""))
                            : store.description(current);
  const bool held = standing.row && standing.row->held;
  AppStatus status;
  status.json = {{"app", standing.app},
                 {"strategy", manifest ? manifest->strategy : "files"},
                 {"current", nullable(current)},
                 {"committed", nullable(standing.committed)},
                 {"previous", nullable(standing.previous)},
                 {"held", held},
                 {"deployment", nullptr},
                 {"generations", Json::array()},
                 {"workers", Json::array()},
                 {"stopped", nullptr},
                 {"boot", "none"},
                 {"last_deployment", nullptr},
                 {"needs_person", standing.needs_person()}};
  std::string line =
      session.bold(standing.app) + "  " + (current.empty() ? "no release is current" : current);
  // on trial, or left so
  if (!standing.committed.empty() && standing.committed != current)
    line += "  committed " + standing.committed;
  if (!standing.previous.empty()) line += session.dim("  previous " + standing.previous);
  if (held) line += "  held by " + base::printable(standing.row->held_by);
  status.lines.push_back(line);
  if (standing.open)
    status.json["deployment"] = {{"trace_id", standing.open->trace_id},
                                 {"stage", standing.open->state},
                                 {"to", nullable(standing.open->to_version)},
                                 {"running", standing.running},
                                 {"weight_percent", 0},
                                 {"step_percent", nullptr},
                                 {"measured_percent", nullptr},
                                 {"paused", false},
                                 {"waiting_for", ""}};
  if (standing.open && standing.running)
    status.lines.push_back("  deploying " + standing.open->to_version + ", stage " +
                           standing.open->state + ", trace " + standing.open->trace_id);
  add_generations(session, standing.app, status);
  if (standing.last && !standing.open) add_last(*standing.last, status);
  add_boot(session, standing, status);
  if (const std::string problem = standing.problem(); !problem.empty()) {
    status.lines.push_back("  " + session.bad(problem));
    status.lines.push_back("  -> " + standing.way_out());
  }
  return status;
}

Exit run_status(Session& session, const std::string& only) {
  auto names = installed_apps(session);
  if (!names) return session.fail(names.error());
  if (!only.empty()) *names = {only};
  const auto settings = session.settings();
  auto journal = open_to_read(session);
  if (!journal && journal.error().code() != Code::not_found)
    session.warning(journal.error().line());
  Json apps = Json::array();
  std::string mechanism = "none";
  std::vector<std::string> lines;
  for (const std::string& name : *names) {
    const auto store = store::AppStore::open(session.layout().app(name), name, false);
    if (!store) return session.fail(store.error());
    AppStatus status = status_of(session, journal ? &*journal : nullptr, *store);
    if (!status.mechanism.empty()) mechanism = status.mechanism;
    apps.push_back(std::move(status.json));
    lines.insert(lines.end(), status.lines.begin(), status.lines.end());
  }
  const Json document = {{"node", (settings ? *settings : config::defaults()).node_name},
                         {"mechanism", mechanism},
                         {"boot", boot_policy()},
                         {"apps", apps}};
  for (const std::string& line : lines) session.print(line);
  if (lines.empty()) session.print("nothing is installed: updagent apply SOURCE");
  // what runs is told although the configuration can't be read: now it is needed most
  if (!settings) return session.fail(settings.error(), document);
  session.document(document);
  return Exit::done;
}

}  // namespace

Run setup_status(CLI::App& command) {
  const auto app = std::make_shared<std::string>();
  command.add_option("APP", *app, "only this app");
  return [app](Session& session) { return run_status(session, *app); };
}

}  // namespace updagent::cli
