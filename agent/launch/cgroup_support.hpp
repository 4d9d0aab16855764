// Which cgroups this machine has, and where in them a process is: proc_self_mountinfo(5) and
// proc_pid_cgroup(5) read together.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/error.hpp"

namespace updagent::launch {

enum class CgroupKind {
  unified,  // version 2 with all controllers
  hybrid,   // controllers in version 1, and a version 2 tree beside them that has none
  v1,       // no version 2 tree is mounted
  none,
};
std::string_view cgroup_kind_name(CgroupKind kind);  // "unified" ...

struct CgroupMount {
  bool version_2 = false;
  std::string root;                      // what of the hierarchy is mounted here: "/" unless bound
  std::string folder;                    // where it is mounted
  std::vector<std::string> controllers;  // of version 1
};

// What generations can be put into. `usable` is false for v1 and none, and where this process may
// not write; `reason` then says why and what is lost, in words for `doctor` and `status`.
struct CgroupSupport {
  CgroupKind kind = CgroupKind::none;
  bool usable = false;
  std::string reason;
  std::string mount_folder;  // of the version 2 tree; "" without one
  std::string own_folder;    // our own cgroup in it; "" when it can't be seen from here
};

// Of this process, by what the kernel says now.
CgroupSupport find_cgroup_support();

// --- the parts, also for the version 1 memory controller -----------------------------------------

std::vector<CgroupMount> parse_cgroup_mounts(std::string_view mountinfo);
// Where the process whose /proc/PID/cgroup is `membership` sits under `mount`. Nothing: not in that
// hierarchy, or outside of what is mounted.
std::optional<std::string> folder_under(const CgroupMount& mount, std::string_view membership);
// Without the trying: what kind there is, and the version 2 folders.
CgroupSupport judge_cgroups(const std::vector<CgroupMount>& mounts, std::string_view membership);

// /proc/self/mountinfo and /proc/PID/cgroup, bounded. "" when they can't be read.
std::string read_mountinfo();
std::string read_membership(pid_t pid);

}  // namespace updagent::launch
