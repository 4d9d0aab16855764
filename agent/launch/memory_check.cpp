#include "agent/launch/memory_check.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <optional>

#include "agent/base/files.hpp"
#include "agent/base/text.hpp"
#include "agent/launch/cgroup_support.hpp"

namespace updagent::launch {
namespace {

constexpr std::size_t kMaxFigureBytes = 64 * 1024;  // memory.stat is some KiB
constexpr std::uint64_t kKib = 1024;
constexpr std::size_t kMaxListedDescriptors = 1U << 20;  // the usual hard limit of one process
constexpr int kMaxFolders = 64;  // cgroups above us: the kernel's own default depth is no smaller

// The number after "KEY" and blanks, colon or not; the first number for an empty key.
std::optional<std::uint64_t> figure(const std::string& path, std::string_view key) {
  const auto text = base::read_file(path, kMaxFigureBytes);
  if (!text) return std::nullopt;
  std::string_view rest = *text;
  while (!rest.empty()) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    if (!line.starts_with(key)) continue;
    line.remove_prefix(key.size());
    if (!key.empty() && !line.starts_with(' ') && !line.starts_with(':')) continue;
    line.remove_prefix(std::min(line.find_first_not_of(": \t"), line.size()));
    return base::parse_u64(line.substr(0, line.find(' ')));
  }
  return std::nullopt;
}

std::optional<std::uint64_t> pss_of(pid_t pid) {
  const auto kib = figure("/proc/" + std::to_string(pid) + "/smaps_rollup", "Pss");
  return kib ? std::optional(*kib * kKib) : std::nullopt;
}

std::uint64_t rss_of(pid_t pid) {
  return figure("/proc/" + std::to_string(pid) + "/status", "VmRSS").value_or(0) * kKib;
}

void take_least(MemoryAtHand& least, const std::string& folder, bool version_2) {
  const auto left = left_under(folder, version_2);
  if (left && left->bytes < least.bytes) least = *left;
}

// From our own cgroup up to what is mounted.
void take_least_above(MemoryAtHand& least, const CgroupMount& mount, const std::string& own) {
  std::string folder = own;
  for (int i = 0; i < kMaxFolders && folder.size() >= mount.folder.size(); ++i) {
    take_least(least, folder, mount.version_2);
    if (folder.size() == mount.folder.size()) break;
    folder.erase(folder.find_last_of('/'));
  }
}

}  // namespace

std::optional<MemoryAtHand> left_under(const std::string& folder, bool version_2) {
  const std::string used_name = version_2 ? "/memory.current" : "/memory.usage_in_bytes";
  const auto used = figure(folder + used_name, "");
  if (!used) return std::nullopt;
  const char* cache_key = version_2 ? "inactive_file" : "total_inactive_file";
  const std::uint64_t cache = figure(folder + "/memory.stat", cache_key).value_or(0);
  const std::uint64_t held = *used - std::min(cache, *used);
  std::optional<MemoryAtHand> least;
  // "max" is no number: no limit. Version 1 has a huge number there, which never is the least.
  for (const char* name : {"memory.max", "memory.high", "memory.limit_in_bytes"}) {
    const auto limit = figure(folder + "/" + name, "");
    if (!limit) continue;
    const std::uint64_t left = *limit - std::min(held, *limit);
    if (!least || left < least->bytes) least = {left, std::string(name) + " of " + folder};
  }
  return least;
}

base::Result<MemoryAtHand> memory_at_hand() {
  const auto available = figure("/proc/meminfo", "MemAvailable");
  if (!available)
    return base::Error(base::Code::io_error, "cannot read MemAvailable from /proc/meminfo");
  MemoryAtHand least{*available * kKib, "MemAvailable"};
  const std::string membership = read_membership(::getpid());
  for (const CgroupMount& mount : parse_cgroup_mounts(read_mountinfo())) {
    const bool of_memory =
        mount.version_2 || std::find(mount.controllers.begin(), mount.controllers.end(),
                                     "memory") != mount.controllers.end();
    const auto own = of_memory ? folder_under(mount, membership) : std::nullopt;
    if (own) take_least_above(least, mount, *own);
  }
  return least;
}

MemoryInUse memory_in_use(const GenerationCgroup* cgroup, std::span<const pid_t> processes) {
  if (cgroup != nullptr)
    if (const auto bytes = cgroup->usage().memory_bytes) return {*bytes, "memory.current"};
  MemoryInUse in_use;
  for (const pid_t pid : processes) {
    const auto pss = pss_of(pid);
    in_use.bytes += pss ? *pss : rss_of(pid);
  }
  in_use.measured_as = "PSS of " + std::to_string(processes.size()) +
                       (processes.size() == 1 ? " process" : " processes");
  return in_use;
}

std::optional<std::uint64_t> descriptors_in_use(std::span<const pid_t> processes) {
  std::optional<std::uint64_t> total;
  for (const pid_t pid : processes.first(std::min(processes.size(), kMaxCountedProcesses))) {
    const std::string folder = "/proc/" + std::to_string(pid) + "/fd";
    struct stat about{};
    // since Linux 6.2 the size of the folder is the count
    if (::stat(folder.c_str(), &about) == 0 && about.st_size > 0) {
      total = total.value_or(0) + static_cast<std::uint64_t>(about.st_size);
    } else if (const auto names = base::list_directory(folder, kMaxListedDescriptors); names) {
      total = total.value_or(0) + names->size();
    }
  }
  return total;
}

base::Status check_memory(const MemoryAtHand& at_hand, const MemoryInUse& active,
                          std::uint64_t reserve) {
  // so that a huge reserve can't wrap around
  if (at_hand.bytes >= reserve && at_hand.bytes - reserve >= active.bytes) return base::ok();
  return base::Error(base::Code::no_space, "there is not enough memory for one more generation")
      .expected("at least the " + base::human_bytes(active.bytes) + " that the active one uses (" +
                active.measured_as + ")" +
                (reserve > 0 ? " and a reserve of " + base::human_bytes(reserve) : ""))
      .got(base::human_bytes(at_hand.bytes) + " (" + at_hand.limited_by + ")")
      .hint(
          "give the node or the cgroup more memory, or use the strategy 'restart', which runs one "
          "at a time");
}

}  // namespace updagent::launch
