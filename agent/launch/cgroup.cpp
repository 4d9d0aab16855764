#include "agent/launch/cgroup.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <utility>

#include "agent/base/files.hpp"
#include "agent/base/pidfd.hpp"
#include "agent/base/text.hpp"
#include "agent/launch/proc_stat.hpp"

namespace updagent::launch {
namespace {

constexpr std::string_view kGenerationPrefix = "generation-";
constexpr const char* kSupervisorName = "supervisor";
constexpr std::size_t kMaxProcsBytes = kMaxProcesses * 12;  // a pid and its line end
constexpr mode_t kFolderMode = 0755;                        // whoever may look, may look
// Killing one by one: each pass hits all there are, and what is frozen can't fork.
constexpr int kMaxKillPasses = 8;

base::Result<std::string> read_at(int directory_fd, const char* name) {
  const base::UniqueFd file(::openat(directory_fd, name, O_RDONLY | O_CLOEXEC));
  if (!file) return base::system_error(errno, std::string("cannot open '") + name + "'");
  return base::read_fd(file.get(), name, kMaxProcsBytes);
}

base::Status write_at(int directory_fd, const char* name, std::string_view text) {
  const base::UniqueFd file(::openat(directory_fd, name, O_WRONLY | O_CLOEXEC));
  if (file && ::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()))
    return base::ok();
  return base::system_error(
      errno, "cannot write '" + std::string(text) + "' to '" + std::string(name) + "'");
}

// The value of a line "KEY VALUE", or of the whole file for an empty key.
std::optional<std::uint64_t> number_in(int directory_fd, const char* name, std::string_view key) {
  const auto text = read_at(directory_fd, name);
  if (!text) return std::nullopt;
  std::string_view rest = *text;
  while (!rest.empty()) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    if (key.empty()) return base::parse_u64(line);
    if (line.starts_with(key) && line.substr(key.size()).starts_with(' '))
      return base::parse_u64(line.substr(key.size() + 1));
  }
  return std::nullopt;
}

std::vector<std::string> sub_cgroups(const std::string& folder) {
  std::vector<std::string> folders;
  // besides sub-cgroups a folder has some dozens of files
  const auto names = base::list_directory(folder, kMaxSubCgroups + 256);
  if (!names) return folders;
  for (const std::string& name : *names) {
    struct stat about{};
    std::string path = folder;
    path.append("/").append(name);
    if (::lstat(path.c_str(), &about) == 0 && S_ISDIR(about.st_mode))
      folders.push_back(std::move(path));
  }
  return folders;
}

// Deepest first: rmdir(2) wants it so.
void collect_folders(const std::string& folder, int depth, std::vector<std::string>& into) {
  if (depth < kMaxCgroupDepth && into.size() < kMaxSubCgroups)
    for (const std::string& below : sub_cgroups(folder)) collect_folders(below, depth + 1, into);
  into.push_back(folder);
}

void append_pids(std::string_view text, std::vector<pid_t>& into) {
  while (!text.empty() && into.size() < kMaxProcesses) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    pid_t pid = 0;  // 0 stands for a process that our pid namespace can't see
    std::from_chars(line.data(), line.data() + line.size(), pid);
    if (pid > 0) into.push_back(pid);
  }
}

// From the first one that is there downwards; nothing is made outside of a cgroup file system.
base::Status make_folders(const std::string& folder) {
  struct statfs about{};
  if (::statfs(folder.c_str(), &about) == 0) {
    if (about.f_type == CGROUP2_SUPER_MAGIC) return base::ok();
    return base::Error(base::Code::config_invalid,
                       "'" + folder + "' is not in a cgroup version 2 file system");
  }
  const std::size_t slash = folder.find_last_of('/');
  if (errno != ENOENT || slash == std::string::npos || slash == 0)
    return base::system_error(errno, "cannot look at '" + folder + "'");
  UPD_TRY(make_folders(folder.substr(0, slash)));
  if (::mkdir(folder.c_str(), kFolderMode) != 0 && errno != EEXIST)
    return base::system_error(errno, "cannot make the cgroup '" + folder + "'");
  return base::ok();
}

std::string name_of(std::uint64_t generation) {
  return std::string(kGenerationPrefix) + std::to_string(generation);
}

std::optional<std::uint64_t> generation_of(std::string_view name) {
  if (!name.starts_with(kGenerationPrefix)) return std::nullopt;
  return base::parse_u64(name.substr(kGenerationPrefix.size()));
}

base::Result<base::UniqueFd> epoll_over(int events_file_fd) {
  base::UniqueFd events(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event changed{};
  changed.events = EPOLLPRI;  // EPOLLIN would always hold: it is a file
  if (events && ::epoll_ctl(events.get(), EPOLL_CTL_ADD, events_file_fd, &changed) == 0)
    return events;
  return base::system_error(errno, "cannot watch cgroup.events");
}

void wait_for(int event_fd, const base::Deadline& deadline) {
  pollfd waiting{event_fd, POLLIN, 0};
  ::poll(&waiting, 1, static_cast<int>(deadline.left().count()));
}

}  // namespace

// --- one generation ------------------------------------------------------------------------------

GenerationCgroup::GenerationCgroup(std::string folder, CgroupMount mount, base::UniqueFd directory,
                                   base::UniqueFd events_file, base::UniqueFd events)
    : folder_(std::move(folder)),
      mount_(std::move(mount)),
      directory_(std::move(directory)),
      events_file_(std::move(events_file)),
      events_(std::move(events)) {}

base::Result<bool> GenerationCgroup::populated() const {
  std::array<char, 256> text{};
  // Reading is what takes the event. ENODEV: the cgroup was removed.
  const ssize_t count = ::pread(events_file_.get(), text.data(), text.size(), 0);
  if (count < 0 && errno == ENODEV) return false;
  if (count < 0) return base::system_error(errno, "cannot read '" + folder_ + "/cgroup.events'");
  const std::string_view content(text.data(), static_cast<std::size_t>(count));
  return content.find("populated 1") != std::string_view::npos;
}

base::Status GenerationCgroup::kill() {
  if (!base::exists(folder_ + "/cgroup.kill")) return kill_each();
  const base::Status killed = write_at(directory_.get(), "cgroup.kill", "1");
  if (killed || !base::exists(folder_)) return base::ok();
  return base::Error(killed.error()).with_context("ending the cgroup '" + folder_ + "'");
}

base::Status GenerationCgroup::kill_each() {
  static_cast<void>(write_at(directory_.get(), "cgroup.freeze", "1"));  // Linux 5.2
  for (int pass = 0; pass < kMaxKillPasses; ++pass) {
    UPD_ASSIGN(const std::vector<pid_t> pids, processes());
    bool hit = false;
    for (const pid_t pid : pids) {
      const base::UniqueFd process = base::open_pidfd(pid);
      // judged again: the pid may have been given away between listing and opening
      if (process && contains(pid)) hit = base::signal_pidfd(process, SIGKILL) || hit;
    }
    if (!hit) break;
  }
  static_cast<void>(write_at(directory_.get(), "cgroup.freeze", "0"));
  return base::ok();
}

base::Result<std::vector<pid_t>> GenerationCgroup::processes() const {
  std::vector<std::string> folders;
  collect_folders(folder_, 0, folders);
  std::vector<pid_t> pids;
  for (const std::string& folder : folders) {
    const auto text = base::read_file(folder + "/cgroup.procs", kMaxProcsBytes);
    if (text) {
      append_pids(*text, pids);
    } else if (folder == folder_ && base::exists(folder_)) {
      return text.error();
    }
  }
  return pids;
}

bool GenerationCgroup::contains(pid_t pid) const {
  const auto folder = folder_under(mount_, read_membership(pid));
  return folder && (*folder == folder_ || folder->starts_with(folder_ + "/"));
}

bool GenerationCgroup::is_or_holds(std::uint64_t cgroup_id) const {
  std::vector<std::string> folders;
  collect_folders(folder_, 0, folders);
  return std::any_of(folders.begin(), folders.end(), [&](const std::string& folder) {
    struct stat about{};
    return ::stat(folder.c_str(), &about) == 0 && about.st_ino == cgroup_id;
  });
}

CgroupUsage GenerationCgroup::usage() const {
  CgroupUsage usage;
  usage.memory_bytes = number_in(directory_.get(), "memory.current", "");
  if (usage.memory_bytes) {
    const auto cache = number_in(directory_.get(), "memory.stat", "inactive_file").value_or(0);
    *usage.memory_bytes -= std::min(cache, *usage.memory_bytes);
  }
  usage.memory_peak_bytes = number_in(directory_.get(), "memory.peak", "");
  usage.cpu_us = number_in(directory_.get(), "cpu.stat", "usage_usec");
  usage.oom_kills = number_in(directory_.get(), "memory.events", "oom_kill");
  return usage;
}

base::Result<bool> GenerationCgroup::remove() {
  std::vector<std::string> folders;
  collect_folders(folder_, 0, folders);
  for (const std::string& folder : folders) {
    if (::rmdir(folder.c_str()) == 0 || errno == ENOENT) continue;
    if (errno == EBUSY || errno == ENOTEMPTY) return false;
    return base::system_error(errno, "cannot remove the cgroup '" + folder + "'");
  }
  return true;
}

base::Result<bool> GenerationCgroup::end(base::Milliseconds patience) {
  const base::Deadline deadline = base::Deadline::in(patience);
  for (;;) {
    UPD_TRY(kill());
    UPD_ASSIGN(bool alive, populated());
    while (alive && !deadline.passed()) {
      wait_for(events_.get(), deadline);
      UPD_ASSIGN(alive, populated());
    }
    UPD_ASSIGN(const bool gone, remove());
    if (gone || deadline.passed()) return gone;
    // Empty and yet busy is a moment at most: a dying process is still being taken out.
    constexpr base::Milliseconds kMoment{2};
    wait_for(events_.get(), base::Deadline::in(kMoment));
  }
}

// --- all of an app -------------------------------------------------------------------------------

base::Result<CgroupTree> CgroupTree::open(const std::string& base_folder) {
  UPD_TRY(make_folders(base_folder));
  CgroupMount mount;
  for (const CgroupMount& candidate : parse_cgroup_mounts(read_mountinfo())) {
    const bool holds = base_folder == candidate.folder ||
                       base_folder.starts_with(candidate.folder + "/") || candidate.folder == "/";
    if (candidate.version_2 && holds && candidate.folder.size() >= mount.folder.size())
      mount = candidate;
  }
  return CgroupTree(base_folder, std::move(mount));
}

base::Status CgroupTree::move_in_supervisor() {
  const std::string leaf = folder_ + "/" + kSupervisorName;
  if (::mkdir(leaf.c_str(), kFolderMode) != 0 && errno != EEXIST)
    return base::system_error(errno, "cannot make the cgroup '" + leaf + "'");
  UPD_ASSIGN(const base::UniqueFd directory, base::open_directory(leaf));
  UPD_TRY_CONTEXT(write_at(directory.get(), "cgroup.procs", "0"),
                  "moving the supervisor into '" + leaf + "'");
  return base::ok();
}

base::Result<bool> CgroupTree::enable_memory_figures() {
  for (const std::string& folder : {folder_.substr(0, folder_.find_last_of('/')), folder_}) {
    UPD_ASSIGN(const base::UniqueFd directory, base::open_directory(folder));
    UPD_ASSIGN(const std::string controllers, read_at(directory.get(), "cgroup.controllers"));
    if ((" " + controllers).find(" memory") == std::string::npos) return false;
    UPD_TRY_CONTEXT(write_at(directory.get(), "cgroup.subtree_control", "+memory"),
                    "turning the memory controller on in '" + folder + "'");
  }
  return true;
}

base::Result<GenerationCgroup> CgroupTree::open_generation(const std::string& name) {
  const std::string folder = folder_ + "/" + name;
  UPD_ASSIGN(base::UniqueFd directory, base::open_directory(folder));
  base::UniqueFd events_file(::openat(directory.get(), "cgroup.events", O_RDONLY | O_CLOEXEC));
  if (!events_file) return base::system_error(errno, "cannot open '" + folder + "/cgroup.events'");
  UPD_ASSIGN(base::UniqueFd events, epoll_over(events_file.get()));
  GenerationCgroup generation(folder, mount_, std::move(directory), std::move(events_file),
                              std::move(events));
  UPD_TRY(generation.populated());  // only what changes from now on is an event
  return generation;
}

base::Result<GenerationCgroup> CgroupTree::make(std::uint64_t generation) {
  const std::string folder = folder_ + "/" + name_of(generation);
  if (::mkdir(folder.c_str(), kFolderMode) != 0 && errno != EEXIST)
    return base::system_error(errno, "cannot make the cgroup '" + folder + "'");
  return open_generation(name_of(generation));
}

base::Result<GenerationCgroup> CgroupTree::find(std::uint64_t generation) {
  if (!base::exists(folder_ + "/" + name_of(generation)))
    return base::Error(base::Code::not_found,
                       "there is no cgroup of generation " + std::to_string(generation));
  return open_generation(name_of(generation));
}

base::Result<CgroupSweep> CgroupTree::sweep(const std::set<std::uint64_t>& living,
                                            base::Milliseconds patience) {
  const base::Deadline deadline = base::Deadline::in(patience);
  CgroupSweep result;
  for (const std::string& folder : sub_cgroups(folder_)) {
    const std::string name = folder.substr(folder_.size() + 1);
    const auto generation = generation_of(name);
    if (!generation || living.contains(*generation)) continue;
    auto cgroup = open_generation(name);
    const auto ended = cgroup ? cgroup->end(deadline.left()) : base::Result<bool>(false);
    (ended.value_or(false) ? result.removed : result.left).push_back(name);
  }
  return result;
}

}  // namespace updagent::launch
