// doctor: what this node can and can't do, each with the mend.
#include "cli/doctor.hpp"

#include <fcntl.h>
#include <grp.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <functional>

#include "agent/base/files.hpp"
#include "agent/base/guarded_file.hpp"
#include "agent/base/identity.hpp"
#include "agent/base/text.hpp"
#include "agent/launch/cgroup_support.hpp"
#include "agent/launch/guard.hpp"
#include "agent/listen/diag.hpp"
#include "agent/listen/mechanism.hpp"
#include "agent/trust/trust.hpp"
#include "cli/journal_access.hpp"
#include "cli/standing.hpp"
#include "cli/verbs.hpp"

namespace updagent::cli {
namespace {

std::string_view health_word(Health health) {
  switch (health) {
    case Health::good:
      return "ok";
    case Health::limited:
      return "limited";
    case Health::broken:
      return "broken";
  }
  return "";
}

// The folder itself or the nearest one above it that exists: where it would be made.
std::string existing_part(std::string path) {
  while (path.size() > 1 && !base::exists(path))
    path.resize(std::max<std::size_t>(1, path.find_last_of('/')));
  return path;
}

Finding check_kernel() {
  utsname about{};
  ::uname(&about);
  const std::string release = about.release;
  const auto beneath = base::open_directory("/");
  const bool openat2 =
      beneath && base::open_beneath(beneath->get(), "proc", O_PATH | O_DIRECTORY).has_value();
  if (!openat2)
    return {"kernel", Health::broken, "Linux " + release + " without openat2(2)",
            "Linux 5.6 or newer is needed; in a container, its seccomp profile must allow openat2"};
  return {"kernel", Health::good, "Linux " + release + ", " + about.machine, ""};
}

Finding check_steering() {
  const listen::MechanismFound found = listen::find_mechanism();
  if (found.mechanism == listen::Mechanism::steered)
    return {"steering", Health::good, "connections can be steered between generations", ""};
  return {"steering", Health::limited, "connections are shared: " + found.reason,
          "Linux 5.14 and CAP_BPF with CAP_NET_ADMIN (root) are needed; until then a handoff needs "
          "allow_shared = true in the release: no preflight, no warm way back"};
}

Finding check_cgroups() {
  const launch::CgroupSupport found = launch::find_cgroup_support();
  if (found.usable)
    return {"cgroups", Health::good,
            "each generation gets its own below " + found.mount_folder + " (" +
                std::string(launch::cgroup_kind_name(found.kind)) + ")",
            ""};
  return {"cgroups", Health::limited, found.reason,
          "mount cgroup2, or run as root: without it the processes of a generation are found by "
          "descent"};
}

Finding check_inject() {
  launch::GuardOptions options;
  options.intercept_bind = true;
  const auto guard = launch::Guard::build(options);
  if (!guard)
    return {"inject", Health::limited, guard.error().line(),
            "protocol inject needs seccomp user notification (Linux 5.14)"};
  if (guard->wait_killable())
    return {"inject", Health::good, "servers that know nothing of us can get our sockets", ""};
  return {"inject", Health::limited, "signals interrupt a bind that waits (before Linux 5.19)",
          "Go programs may ask twice; both are answered"};
}

Finding check_sock_diag() {
  for (const std::string text : {"tcp:127.0.0.1:1", "unix:/updagent"}) {
    const auto address = listen::parse_address(text, "doctor", base::Code::internal);
    if (!address) return {"sock_diag", Health::broken, address.error().line(), ""};
    const auto found = listen::connections_of(*address, listen::InodeSet());
    if (!found)
      return {"sock_diag", Health::limited, found.error().line(),
              "modprobe tcp_diag, udp_diag and unix_diag: without them an old generation drains "
              "for its whole drain_timeout, and strangers at its ports are not seen"};
  }
  return {"sock_diag", Health::good, "the kernel tells what is under way on a connection", ""};
}

Finding check_root(Session& session) {
  const std::string path = existing_part(session.layout().state);
  if (::access(path.c_str(), W_OK | X_OK) == 0)
    return {"root folder", Health::good, session.layout().state + " can be written", ""};
  return {"root folder", Health::broken, session.layout().state + " can't be written by this user",
          "run it with sudo, or give a root folder of your own: --root DIR"};
}

bool can_reflink(const std::string& folder) {
  const base::UniqueFd from(::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  const base::UniqueFd to(::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!from || !to || ::write(from.get(), "x", 1) != 1) return false;
  return ::ioctl(to.get(), FICLONE, from.get()) == 0;
}

std::string file_system_name(const std::string& path) {
  struct statfs about{};
  if (::statfs(path.c_str(), &about) != 0) return "unknown";
  switch (static_cast<unsigned long>(about.f_type)) {
    case EXT4_SUPER_MAGIC:
      return "ext4";
    case BTRFS_SUPER_MAGIC:
      return "btrfs";
    case 0x58465342UL:
      return "xfs";  // XFS_SUPER_MAGIC, not in linux/magic.h of Debian 12
    case TMPFS_MAGIC:
      return "tmpfs";
    case OVERLAYFS_SUPER_MAGIC:
      return "overlayfs";
    case NFS_SUPER_MAGIC:
      return "nfs";
    default:
      return "0x" +
             base::to_hex(std::vector<std::uint8_t>{static_cast<std::uint8_t>(about.f_type >> 24),
                                                    static_cast<std::uint8_t>(about.f_type >> 16),
                                                    static_cast<std::uint8_t>(about.f_type >> 8),
                                                    static_cast<std::uint8_t>(about.f_type)});
  }
}

Finding check_file_system(Session& session) {
  const std::string path = existing_part(session.layout().state);
  const std::string name = file_system_name(path);
  if (name == "nfs" || name == "overlayfs" || name == "tmpfs")
    return {
        "file system", Health::limited, name + " under " + path,
        name == "tmpfs"
            ? "releases on tmpfs are gone after a boot: use a disk"
            : "durability of rename and locks is weaker here: use a local disk (ext4, xfs, btrfs)"};
  return {"file system", Health::good,
          name + (can_reflink(path) ? ", unchanged files are shared by reflink"
                                    : ", unchanged files are shared by hard link"),
          ""};
}

Finding check_disk(Session& session) {
  const std::string path = existing_part(session.layout().state);
  struct statvfs about{};
  if (::statvfs(path.c_str(), &about) != 0)
    return {"disk", Health::broken, "statvfs fails on " + path, "look at the mount"};
  const std::uint64_t free_bytes = about.f_bavail * about.f_frsize;
  const std::string found =
      base::human_bytes(free_bytes) + " and " + std::to_string(about.f_favail) + " inodes free";
  constexpr std::uint64_t kLittle = 1ULL << 30;
  const bool few_inodes = about.f_files > 0 && about.f_favail < 10'000;
  if (free_bytes < kLittle || few_inodes)
    return {"disk", Health::limited, found,
            "a release needs room beside the current one: free some, or lower [retention] keep"};
  return {"disk", Health::good, found, ""};
}

Finding check_clock() {
  timex about{};
  const int state = ::adjtimex(&about);
  constexpr std::int64_t kThisSoftwareWasWritten = 1'767'225'600'000'000;  // 2026-01-01
  if (base::wall_now_us() < kThisSoftwareWasWritten)
    return {"clock", Health::broken, base::format_rfc3339(base::wall_now_us()) + " is in the past",
            "set the clock; TLS and the log need it"};
  if (state == TIME_ERROR || (about.status & STA_UNSYNC) != 0)
    return {
        "clock", Health::limited, "not synchronised",
        "run an NTP client (systemd-timesyncd, chrony): log times of several nodes won't line up"};
  return {"clock", Health::good, "synchronised", ""};
}

Finding check_configuration(Session& session) {
  const auto settings = session.settings();
  if (!settings)
    return {"configuration", Health::broken, settings.error().line(), settings.error().hint()};
  std::string found =
      settings->sources.empty() ? "defaults (no node.toml)" : base::join(settings->sources, ", ");
  return {"configuration", Health::good, found + ", node name " + settings->node_name, ""};
}

Finding check_keys(Session& session) {
  const auto settings = session.settings();
  const int threshold = settings ? settings->app.threshold : 1;
  const auto trust = trust::load_trust(session.layout().trust(), "", threshold);
  if (!trust) {
    const bool none = trust.error().code() == base::Code::no_trusted_keys;
    return {"keys", none ? Health::limited : Health::broken, trust.error().line(),
            trust.error().hint().empty() ? "updagent trust add KEY.pub" : trust.error().hint()};
  }
  const std::string found = std::to_string(trust->keys.size()) + " trusted for every app, " +
                            std::to_string(threshold) + " must sign";
  if (trust->keys.size() < static_cast<std::size_t>(threshold))
    return {"keys", Health::limited, found,
            "updagent trust add KEY.pub (nothing can be installed with fewer than " +
                std::to_string(threshold) + ")"};
  return {"keys", Health::good, found, ""};
}

Finding check_user(Session& session) {
  const auto settings = session.settings();
  if (::geteuid() != 0)
    return {"user", Health::limited,
            "not root: hooks and probes run as " + base::own_identity().user,
            "as root they run as an unprivileged user of their own"};
  const std::string name =
      settings ? settings->app.user.value_or(settings->app.default_user) : "nobody";
  const auto identity = base::identity_of_user(name);
  if (!identity) return {"user", Health::broken, identity.error().line(), identity.error().hint()};
  if (const std::string closed = base::folder_closed_to(*identity, session.layout().state);
      !closed.empty())
    return {"user", Health::limited,
            "hooks, probes and services run as " + name + ", which may not enter " + closed,
            "chmod o+x " + base::shell_quoted(closed) + ", or another root folder: --root DIR"};
  return {"user", Health::good, "hooks, probes and services run as " + name, ""};
}

Finding check_journal(Session& session) {
  if (!base::exists(session.layout().database())) return {"journal", Health::good, "none yet", ""};
  auto journal = open_to_read(session);
  if (!journal) return {"journal", Health::broken, journal.error().line(), journal.error().hint()};
  const auto head = journal->head();
  if (!head) return {"journal", Health::broken, head.error().line(), "updagent recover --rebuild"};
  const auto waiting = base::exists(session.layout().spool())
                           ? base::list_directory(session.layout().spool(), 100'000)
                           : base::Result<std::vector<std::string>>(std::vector<std::string>());
  if (waiting && !waiting->empty())
    return {"journal", Health::limited,
            std::to_string(waiting->size()) + " files of events wait to be imported",
            "updagent recover"};
  return {"journal", Health::good, std::to_string(head->count) + " events", ""};
}

Finding check_audit_group(Session& session) {
  const auto settings = session.settings();
  if (!settings || settings->audit_group.empty())
    return {"audit group", Health::good, "none: only root reads the log", ""};
  if (::getgrnam(settings->audit_group.c_str()) == nullptr)
    return {"audit group", Health::broken, "there is no group '" + settings->audit_group + "'",
            "groupadd " + settings->audit_group};
  return {"audit group", Health::good, settings->audit_group + " reads the log", ""};
}

Finding check_boot(Session& session) {
  if (session.layout().explicit_root)
    return {"boot", Health::limited, "a root folder of its own: nothing runs at boot for it",
            "updagent --root " + session.layout().state + " recover, from a unit of yours"};
  if (!base::exists("/run/systemd/system"))
    return {"boot", Health::limited, "systemd is not PID 1",
            "have your init run: updagent recover --as boot, before what runs from releases"};
  if (!base::exists("/etc/systemd/system/basic.target.wants/updagent-recover.service"))
    return {"boot", Health::limited, "updagent-recover.service is not enabled",
            "systemctl enable updagent-recover.service"};
  return {"boot", Health::good, "updagent-recover.service is enabled", ""};
}

Finding check_deployments(Session& session) {
  auto journal = open_to_read(session);
  const auto apps = installed_apps(session);
  if (!apps) return {"deployments", Health::broken, apps.error().line(), apps.error().hint()};
  std::size_t running = 0;
  for (const std::string& app : *apps) {
    const auto store = store::AppStore::open(session.layout().app(app), app, false);
    if (!store) return {"deployments", Health::broken, store.error().line(), store.error().hint()};
    const Standing standing = standing_of(session, journal ? &*journal : nullptr, *store);
    if (standing.running) ++running;
    if (const std::string problem = standing.problem(); !problem.empty()) {
      std::string named = "'";
      named.append(app).append("': ").append(problem);
      return {"deployments", Health::broken, named, standing.way_out()};
    }
  }
  return {"deployments", Health::good,
          running == 0 ? "none is open" : std::to_string(running) + " running", ""};
}

base::Exit run_doctor(Session& session) {
  std::vector<Finding> findings = {check_kernel(),
                                   check_steering(),
                                   check_cgroups(),
                                   check_inject(),
                                   check_sock_diag(),
                                   check_root(session),
                                   check_file_system(session),
                                   check_disk(session),
                                   check_clock(),
                                   check_configuration(session),
                                   check_keys(session),
                                   check_user(session),
                                   check_journal(session),
                                   check_audit_group(session),
                                   check_deployments(session),
                                   check_boot(session)};
  check_apps(session, findings);
  Json list = Json::array();
  for (const Finding& finding : findings) {
    list.push_back({{"check", finding.what},
                    {"health", health_word(finding.health)},
                    {"found", finding.found},
                    {"mend", finding.mend}});
    std::string name = finding.what;
    name.resize(std::max<std::size_t>(name.size() + 1, 14), ' ');
    std::string word(health_word(finding.health));
    word.resize(8, ' ');
    session.print(name + (finding.health == Health::good ? session.good(word) : session.bad(word)) +
                  " " + base::printable(finding.found));
    if (!finding.mend.empty())
      session.print(std::string(23, ' ') + "-> " + base::printable(finding.mend));
  }
  const bool broken = std::any_of(findings.begin(), findings.end(), [](const Finding& finding) {
    return finding.health == Health::broken;
  });
  session.document({{"healthy", !broken}, {"checks", list}});
  return broken ? base::Exit::usage : base::Exit::done;
}

}  // namespace

Run setup_doctor(CLI::App&) {
  return &run_doctor;
}

}  // namespace updagent::cli
