#include "agent/launch/cgroup_support.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>

#include "agent/base/files.hpp"

namespace updagent::launch {
namespace {

// A container host has thousands of mounts; each line is a few hundred bytes.
constexpr std::size_t kMaxMountinfoBytes = 16 * 1024 * 1024;
constexpr std::size_t kMaxMembershipBytes = 64 * 1024;  // one path for each of a dozen hierarchies

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(separator), text.size());
    parts.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

// Blanks and backslashes of paths are written as \NNN, octal.
std::string unescape(std::string_view field) {
  std::string out;
  while (!field.empty()) {
    const bool escaped = field.front() == '\\' && field.size() >= 4 &&
                         field.substr(1, 3).find_first_not_of("01234567") == std::string_view::npos;
    if (!escaped) {
      out += field.front();
      field.remove_prefix(1);
      continue;
    }
    out += static_cast<char>((field[1] - '0') * 64 + (field[2] - '0') * 8 + (field[3] - '0'));
    field.remove_prefix(4);
  }
  return out;
}

// "ID PARENT MAJOR:MINOR ROOT FOLDER OPTIONS [TAG...] - TYPE SOURCE SUPER_OPTIONS"
std::optional<CgroupMount> parse_mount(std::string_view line) {
  const std::size_t dash = line.find(" - ");
  if (dash == std::string_view::npos) return std::nullopt;
  const auto before = split(line.substr(0, dash), ' ');
  const auto after = split(line.substr(dash + 3), ' ');
  if (before.size() < 5 || after.size() < 3) return std::nullopt;
  if (after[0] != "cgroup2" && after[0] != "cgroup") return std::nullopt;
  CgroupMount mount{after[0] == "cgroup2", unescape(before[3]), unescape(before[4]), {}};
  if (!mount.version_2)
    for (const std::string_view option : split(after[2], ','))
      mount.controllers.emplace_back(option);
  return mount;
}

// "ID:CONTROLLERS:PATH" of this mount's hierarchy.
std::optional<std::string> path_in_hierarchy(const CgroupMount& mount,
                                             std::string_view membership) {
  for (const std::string_view line : split(membership, '\n')) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (first == std::string_view::npos || second == std::string_view::npos) continue;
    const std::string_view controllers = line.substr(first + 1, second - first - 1);
    const std::string path(line.substr(second + 1));
    if (mount.version_2 && line.substr(0, first) == "0" && controllers.empty()) return path;
    if (mount.version_2) continue;
    for (const std::string_view controller : split(controllers, ','))
      if (std::find(mount.controllers.begin(), mount.controllers.end(), controller) !=
          mount.controllers.end())
        return path;
  }
  return std::nullopt;
}

bool has_controller(const std::vector<CgroupMount>& mounts) {
  static constexpr std::array<std::string_view, 4> kResource = {"memory", "cpu", "pids", "blkio"};
  const auto resource = [](const std::string& name) {
    return std::find(kResource.begin(), kResource.end(), name) != kResource.end();
  };
  return std::any_of(mounts.begin(), mounts.end(), [&](const CgroupMount& mount) {
    return std::any_of(mount.controllers.begin(), mount.controllers.end(), resource);
  });
}

constexpr const char* kWithout =
    "; without it a generation is found by its process tree, its session and a mark in its "
    "environment, which a daemon that leaves all three escapes";

}  // namespace

std::string_view cgroup_kind_name(CgroupKind kind) {
  switch (kind) {
    case CgroupKind::unified:
      return "unified";
    case CgroupKind::hybrid:
      return "hybrid";
    case CgroupKind::v1:
      return "v1";
    case CgroupKind::none:
      return "none";
  }
  return "none";
}

std::vector<CgroupMount> parse_cgroup_mounts(std::string_view mountinfo) {
  std::vector<CgroupMount> mounts;
  for (const std::string_view line : split(mountinfo, '\n'))
    if (auto mount = parse_mount(line)) mounts.push_back(std::move(*mount));
  return mounts;
}

std::optional<std::string> folder_under(const CgroupMount& mount, std::string_view membership) {
  const auto path = path_in_hierarchy(mount, membership);
  // "/..": outside of our cgroup namespace
  if (!path || path->starts_with("/..")) return std::nullopt;
  if (mount.root == "/") return *path == "/" ? mount.folder : mount.folder + *path;
  if (*path == mount.root) return mount.folder;
  if (!path->starts_with(mount.root + "/")) return std::nullopt;
  return mount.folder + path->substr(mount.root.size());
}

CgroupSupport judge_cgroups(const std::vector<CgroupMount>& mounts, std::string_view membership) {
  CgroupSupport support;
  const auto version_2 = std::find_if(mounts.begin(), mounts.end(),
                                      [](const CgroupMount& mount) { return mount.version_2; });
  if (mounts.empty()) {
    support.reason = std::string("no cgroup file system is mounted") + kWithout;
    return support;
  }
  if (version_2 == mounts.end()) {
    support.kind = CgroupKind::v1;
    support.reason =
        std::string("only cgroup version 1 is mounted, and cgroup.kill is in version 2") + kWithout;
    return support;
  }
  support.kind = has_controller(mounts) ? CgroupKind::hybrid : CgroupKind::unified;
  support.mount_folder = version_2->folder;
  const auto own = folder_under(*version_2, membership);
  if (own) support.own_folder = *own;
  support.usable = own.has_value();
  if (!own)
    support.reason =
        "our cgroup lies outside of what is mounted at " + version_2->folder + kWithout;
  return support;
}

std::string read_mountinfo() {
  return base::read_file("/proc/self/mountinfo", kMaxMountinfoBytes).value_or(std::string());
}

std::string read_membership(pid_t pid) {
  const std::string path = "/proc/" + std::to_string(pid) + "/cgroup";
  return base::read_file(path, kMaxMembershipBytes).value_or(std::string());
}

CgroupSupport find_cgroup_support() {
  CgroupSupport support =
      judge_cgroups(parse_cgroup_mounts(read_mountinfo()), read_membership(::getpid()));
  if (support.usable && ::access(support.own_folder.c_str(), W_OK) != 0) {
    support.usable = false;
    support.reason = "this user may not make cgroups in " + support.own_folder + kWithout;
  }
  return support;
}

}  // namespace updagent::launch
