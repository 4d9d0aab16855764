#include "agent/launch/process_family.hpp"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "agent/base/files.hpp"
#include "agent/base/pidfd.hpp"
#include "agent/launch/proc_stat.hpp"

namespace updagent::launch {
namespace {

// An environment of execve(2) may have a quarter of the stack, 2 MiB by default; more isn't read.
constexpr std::size_t kMaxEnvironmentBytes = 2 * 1024 * 1024;
// Killed processes are gone within a moment; those that we forked a child of are in the next pass.
constexpr base::Milliseconds kPassPause{5};
// execve(2) takes microseconds there; a loaded machine, or a file system that the service itself
// serves, can make it last. In all, for one walk over the processes.
constexpr base::Milliseconds kExecPause{1};
constexpr int kMaxExecLooks = 50;
// Of a process with a program: it is empty indeed, or was opened just before execve(2).
constexpr int kMaxEmptyLooks = 4;
// Whoever is deeper is found in the next pass, when those above it are dead.
constexpr int kMaxAncestors = 512;

using ProcessTable = std::unordered_map<pid_t, ProcStat>;

base::Result<ProcessTable> read_processes() {
  UPD_ASSIGN(const std::vector<pid_t> pids, list_processes());
  ProcessTable table;
  for (const pid_t pid : pids)
    if (const auto stat = read_proc_stat(pid)) table.emplace(pid, *stat);
  return table;
}

bool is_main(const ProcessFamily& family, pid_t pid, const ProcStat& stat) {
  return pid == family.main.pid && stat.start_ticks == family.main.start_ticks;
}

// Nothing: it has none, or it can't be read. In the middle of execve(2) it is empty for a moment,
// and so is what was opened just before: that would hide the process. It is looked at again then.
std::optional<std::string> environment_of(pid_t pid, int& looks) {
  const std::string path = "/proc/" + std::to_string(pid) + "/environ";
  for (int empty = 0; empty < kMaxEmptyLooks;) {
    auto environment = base::read_file(path, kMaxEnvironmentBytes);
    if (!environment) return std::nullopt;
    if (!environment->empty()) return std::move(*environment);
    const auto stat = read_proc_stat(pid);
    if (!stat || stat->dead() || stat->kernel_thread) return std::nullopt;
    if (stat->has_program) {
      ++empty;
    } else {
      if (--looks < 0) return std::nullopt;
      ::poll(nullptr, 0, static_cast<int>(kExecPause.count()));
    }
  }
  return std::nullopt;
}

bool carries_mark(pid_t pid, const std::string& mark, int& looks) {
  const auto environment = environment_of(pid, looks);
  if (!environment) return false;
  const std::string whole = '\0' + *environment;
  return whole.find('\0' + mark + '\0') != std::string::npos;
}

// By parents. Pids of a changing tree may lie, even in a circle: so the climb has a bound.
template <class Lookup>
bool descends(pid_t pid, pid_t root, const Lookup& lookup) {
  for (int climbed = 0; climbed < kMaxAncestors && pid > 1; ++climbed) {
    if (pid == root) return true;
    const std::optional<ProcStat> stat = lookup(pid);
    if (!stat) return false;
    pid = stat->parent;
  }
  return false;
}

// With the start time by which the process is known again before it is killed.
base::Result<std::vector<std::pair<pid_t, std::uint64_t>>> find_family(
    const ProcessFamily& family) {
  UPD_ASSIGN(const ProcessTable table, read_processes());
  const auto main = table.find(family.main.pid);
  const bool main_known = main != table.end() && is_main(family, main->first, main->second);
  const auto lookup = [&table](pid_t pid) {
    const auto entry = table.find(pid);
    return entry == table.end() ? std::nullopt : std::optional(entry->second);
  };
  std::vector<std::pair<pid_t, std::uint64_t>> found;
  int looks = kMaxExecLooks;
  for (const auto& [pid, stat] : table) {
    if (stat.dead() || stat.kernel_thread || pid == ::getpid()) continue;
    const bool related =
        main_known && (stat.session == family.main.pid || descends(pid, family.main.pid, lookup));
    if (related || (!family.mark.empty() && carries_mark(pid, family.mark, looks)))
      found.emplace_back(pid, stat.start_ticks);
  }
  return found;
}

}  // namespace

base::Result<std::vector<pid_t>> processes_of(const ProcessFamily& family) {
  UPD_ASSIGN(const auto found, find_family(family));
  std::vector<pid_t> pids;
  pids.reserve(found.size());
  for (const auto& [pid, start_ticks] : found) pids.push_back(pid);
  return pids;
}

bool belongs_to(const ProcessFamily& family, pid_t pid) {
  const auto stat = read_proc_stat(pid);
  if (!stat) return false;
  const auto main = read_proc_stat(family.main.pid);
  const bool main_known = main && is_main(family, family.main.pid, *main);
  const bool related = main_known && (stat->session == family.main.pid ||
                                      descends(pid, family.main.pid, read_proc_stat));
  int looks = kMaxExecLooks;
  return related || (!family.mark.empty() && carries_mark(pid, family.mark, looks));
}

base::Result<std::vector<pid_t>> kill_family(const ProcessFamily& family,
                                             base::Milliseconds patience) {
  const base::Deadline deadline = base::Deadline::in(patience);
  for (;;) {
    UPD_ASSIGN(const auto found, find_family(family));
    std::vector<pid_t> alive;
    for (const auto& [pid, start_ticks] : found) {
      alive.push_back(pid);
      const base::UniqueFd process = base::open_pidfd(pid);
      const auto stat = read_proc_stat(pid);
      if (process && stat && stat->start_ticks == start_ticks) base::signal_pidfd(process, SIGKILL);
    }
    if (alive.empty() || deadline.passed()) return alive;
    ::poll(nullptr, 0, static_cast<int>(kPassPause.count()));
  }
}

}  // namespace updagent::launch
