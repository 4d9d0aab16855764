#include "agent/deploy/supervise.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>

#include "agent/base/detached_process.hpp"
#include "agent/base/digest.hpp"
#include "agent/base/files.hpp"
#include "agent/base/unique_fd.hpp"
#include "agent/deploy/unit.hpp"
#include "agent/launch/cgroup.hpp"
#include "agent/launch/cgroup_support.hpp"
#include "agent/service/places.hpp"

namespace updagent::deploy {
namespace {

using base::Code;
using base::Error;
using base::Result;

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

// A hard limit is raised with CAP_SYS_RESOURCE only; without it the soft one goes as far as it may.
void take_limit(__rlimit_resource which, rlimit wanted) {
  if (::setrlimit(which, &wanted) == 0) return;
  rlimit own{};
  if (::getrlimit(which, &own) != 0) return;
  own.rlim_cur = std::min(wanted.rlim_cur, own.rlim_max);
  ::setrlimit(which, &own);
}

// What init has, which is what a boot would give; the caller may be a build job with little.
void take_limits_of_init() {
  constexpr pid_t kInit = 1;
  for (int resource = 0; resource < static_cast<int>(RLIM_NLIMITS); ++resource) {
    rlimit limit{};
    const auto which = static_cast<__rlimit_resource>(resource);
    if (::prlimit(kInit, which, nullptr, &limit) == 0) take_limit(which, limit);
  }
  ::setpriority(PRIO_PROCESS, 0, 0);
  cpu_set_t processors;
  CPU_ZERO(&processors);
  if (::sched_getaffinity(kInit, sizeof processors, &processors) == 0)
    ::sched_setaffinity(0, sizeof processors, &processors);
  const base::UniqueFd score(::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));
  if (score) static_cast<void>(!::write(score.get(), "0", 1));
}

// A session or a job that ends with all that is in its cgroup must not take the services with it.
void leave_cgroup(const std::string& cgroup) {
  if (cgroup.empty()) return;
  if (auto tree = launch::CgroupTree::open(cgroup); tree)
    static_cast<void>(tree->move_in_supervisor());
}

// Each of these is a convenience that an unprivileged caller may not get.
void forget_caller(const std::string& cgroup) {
  take_limits_of_init();
  leave_cgroup(cgroup);
}

}  // namespace

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
  known.affinity = manifest.rollout.affinity;
  known.standby = manifest.rollout.standby;
  return config::resolve_service(*manifest.service, manifest.environment, std::move(known),
                                 settings);
}

void remove_empty_cgroups(const config::Layout& layout, const std::string& app) {
  if (runs_as_unit(layout)) return;  // systemd's
  const std::string folder = cgroup_folder(layout, app);
  if (folder.empty()) return;
  const std::string of_root = folder.substr(0, folder.find_last_of('/'));
  for (const std::string& path : {folder + "/supervisor", folder, of_root})
    static_cast<void>(::rmdir(path.c_str()));
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
  std::vector<std::string> own = {own_program()};
  if (layout.explicit_root) own.insert(own.end(), {"--root", layout.state});
  for (const std::string verb : {"rollback", "recover"}) {
    std::vector<std::string> words = own;
    words.insert(words.end(), {verb, app, "--as", "supervisor"});
    for (std::string& word : words) {
      command.push_back("--" + verb + "-word");
      command.push_back(std::move(word));
    }
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
    const std::string cgroup = cgroup_folder(layout, app);
    // nothing of the caller's environment: what services get is exact anyway
    UPD_TRY(base::start_detached(command, {}, [&cgroup] { forget_caller(cgroup); }));
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
