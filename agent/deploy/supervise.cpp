#include "agent/deploy/supervise.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>

#include "agent/base/child_process.hpp"
#include "agent/base/detached_process.hpp"
#include "agent/base/digest.hpp"
#include "agent/base/files.hpp"
#include "agent/deploy/environment.hpp"
#include "agent/deploy/policy.hpp"
#include "agent/launch/cgroup_support.hpp"
#include "agent/service/places.hpp"

namespace updagent::deploy {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::Status;

constexpr const char* kProgram = "updagent-supervisor";
constexpr base::Milliseconds kLookForSocket{20};
constexpr std::size_t kRootDigits =
    8;  // of the runtime folder's digest: several roots, one machine

std::string own_program() {
  std::array<char, PATH_MAX> path{};
  const ssize_t length = ::readlink("/proc/self/exe", path.data(), path.size() - 1);
  return {path.data(), length > 0 ? static_cast<std::size_t>(length) : 0};
}

std::string own_folder() {
  const std::string whole = own_program();
  return whole.substr(0, whole.find_last_of('/'));
}

// Beside us in a build tree, in libexec when installed.
Result<std::string> find_program() {
  const std::string folder = own_folder();
  for (const std::string& path :
       {folder + "/" + kProgram, folder + "/../libexec/updagent/" + kProgram})
    if (::access(path.c_str(), X_OK) == 0) return path;
  return Error(Code::not_found, std::string("the program '") + kProgram + "' is not installed")
      .expected("in " + folder + " or " + folder + "/../libexec/updagent")
      .hint("install updagent as a whole");
}

std::string cgroup_folder(const config::Layout& layout, const std::string& app) {
  const launch::CgroupSupport support = launch::find_cgroup_support();
  if (!support.usable) return "";
  if (runs_as_unit(layout)) return support.own_folder;
  const std::string root = base::sha256(layout.runtime).hex().substr(0, kRootDigits);
  return support.mount_folder + "/updagent-" + root + "/" + app;
}

Status start_unit(const std::string& app) {
  base::ChildSpec spec;
  spec.argv = {"systemctl", "start", "updagent@" + app + ".service"};
  spec.environment = {std::string("PATH=") + base::kSafePath};
  spec.working_directory = "/";
  spec.time_limit = kSupervisorPatience;
  UPD_ASSIGN(const base::ChildResult ran, base::run_child(spec, nullptr));
  if (ran.success()) return base::ok();
  return Error(Code::io_error, "systemd did not start updagent@" + app + ".service")
      .got(ran.describe(spec.time_limit))
      .hint("systemctl status updagent@" + app + ".service");
}

}  // namespace

bool runs_as_unit(const config::Layout& layout) {
  return !layout.explicit_root && base::exists("/run/systemd/system");
}

Result<config::ServiceResolution> resolve(const release::Manifest& manifest,
                                          const config::Layout& layout,
                                          const config::AppSettings& settings,
                                          const std::string& user) {
  if (!manifest.service)
    return Error(Code::strategy_unsupported,
                 "'" + manifest.app + "' " + manifest.version.text() + " has no service to run");
  config::AppPlace place;
  place.we_are_root = ::geteuid() == 0;
  place.runtime = layout.app_runtime(manifest.app);
  place.config_path = layout.etc + "/apps.d/" + manifest.app + ".toml";
  UPD_TRY(config::check_service_request(*manifest.service, settings, place));
  release::ResolvedService known;
  known.app = manifest.app;
  known.version = manifest.version.text();
  known.strategy = manifest.strategy;
  known.release = layout.release(manifest.app, known.version);
  known.data = layout.data(manifest.app);
  known.cache = layout.app(manifest.app) + "/cache";
  known.runtime = layout.app_runtime(manifest.app);
  known.user = user;
  return config::resolve_service(*manifest.service, manifest.environment, std::move(known),
                                 settings);
}

Result<std::string> committed_service(const config::Layout& layout, const std::string& app) {
  UPD_ASSIGN(store::AppStore store, store::AppStore::open(layout.app(app), app, false));
  UPD_ASSIGN(const store::Links links, store.links());
  if (!links.committed)
    return Error(Code::not_found, "no release of '" + app + "' was ever committed here");
  UPD_ASSIGN(const release::Manifest manifest, store.description(*links.committed));
  UPD_ASSIGN(const config::Settings settings, config::load(layout, std::nullopt, app));
  UPD_ASSIGN(const std::string user,
             user_for(manifest, settings.app, ::geteuid() == 0, base::own_identity().user,
                      layout.etc + "/apps.d/" + app + ".toml"));
  UPD_ASSIGN(const config::ServiceResolution found, resolve(manifest, layout, settings.app, user));
  UPD_TRY(prepare_place(store, layout, *links.committed, user));
  return release::resolved_service_to_json(found.run, Code::config_invalid);
}

Result<service::Client> connect_supervisor(const config::Layout& layout, const std::string& app) {
  return service::Client::connect(service::Places{layout.runtime, app}.control());
}

Result<std::vector<std::string>> supervisor_command(const config::Layout& layout,
                                                    const std::string& app, int service_fd) {
  UPD_ASSIGN(std::string program, find_program());
  std::vector<std::string> command = {std::move(program), "--app",        app,
                                      "--runtime",        layout.runtime, "--folder",
                                      layout.app(app),    "--events",     layout.spool()};
  if (const std::string cgroup = cgroup_folder(layout, app); !cgroup.empty()) {
    command.emplace_back("--cgroup");
    command.push_back(cgroup);
  }
  std::vector<std::string> rollback = {own_program()};
  if (layout.explicit_root) rollback.insert(rollback.end(), {"--root", layout.state});
  rollback.insert(rollback.end(), {"rollback", app, "--as", "supervisor"});
  for (std::string& word : rollback) {
    command.emplace_back("--rollback-word");
    command.push_back(std::move(word));
  }
  if (service_fd >= 0) {
    command.emplace_back("--service-fd");
    command.push_back(std::to_string(service_fd));
  }
  return command;
}

Result<service::Client> find_supervisor(const config::Layout& layout, const std::string& app) {
  auto running = connect_supervisor(layout, app);
  if (running || running.error().code() != Code::not_found) return running;
  if (!base::exists(service::Places{layout.runtime, app}.state())) return running;
  return ensure_supervisor(layout, app);
}

Result<service::Client> ensure_supervisor(const config::Layout& layout, const std::string& app) {
  auto running = connect_supervisor(layout, app);
  if (running || running.error().code() != Code::not_found) return running;
  if (runs_as_unit(layout)) {
    UPD_TRY(start_unit(app));
  } else {
    UPD_ASSIGN(const std::vector<std::string> command, supervisor_command(layout, app, -1));
    // nothing of the caller's environment: what services get is exact anyway
    UPD_TRY(base::start_detached(command, {}));
  }
  const base::Deadline end = base::Deadline::in(kSupervisorPatience);
  for (;;) {
    running = connect_supervisor(layout, app);
    if (running || running.error().code() != Code::not_found) return running;
    if (end.passed())
      return Error(Code::timed_out, "the supervisor of '" + app + "' did not come up")
          .hint("journalctl -t updagent-supervisor, or run it by hand: updagent supervise " + app);
    // no event tells of a socket that another process is about to bind
    ::poll(nullptr, 0, static_cast<int>(kLookForSocket.count()));
  }
}

}  // namespace updagent::deploy
