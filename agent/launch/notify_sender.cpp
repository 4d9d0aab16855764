#include "agent/launch/notify_sender.hpp"

#include <sys/ioctl.h>

#include <cerrno>
#include <optional>

#include "agent/base/pidfd.hpp"

namespace updagent::launch {
namespace {

// PIDFD_GET_INFO (Linux 6.13), PIDFD_INFO_VER0: younger than the headers that we build with.
struct SenderInfo {
  std::uint64_t mask;
  std::uint64_t cgroup_id;
  std::uint32_t ids[11];  // pid, tgid, ppid, and the eight uids and gids
  std::int32_t exit_code;
};
static_assert(sizeof(SenderInfo) == 64);
constexpr std::uint64_t kInfoCgroup = 1U << 2;
constexpr std::uint64_t kInfoExit = 1U << 3;
constexpr unsigned long kGetSenderInfo = _IOWR(0xFF, 11, SenderInfo);

std::optional<std::uint64_t> kept_cgroup(const base::UniqueFd& pidfd) {
  SenderInfo info{};
  info.mask = kInfoCgroup | kInfoExit;
  if (::ioctl(pidfd.get(), kGetSenderInfo, &info) != 0) return std::nullopt;
  if ((info.mask & kInfoCgroup) == 0 || info.cgroup_id == 0) return std::nullopt;
  return info.cgroup_id;
}

bool has_pid_still(const base::UniqueFd& pidfd) {
  return base::signal_pidfd(pidfd, 0) || errno == EPERM;
}

}  // namespace

Standing standing_of(const Sender& sender, const Membership& membership) {
  if (sender.pid <= 0) return Standing::stranger;
  if (!sender.pidfd) {
    const base::UniqueFd now = base::open_pidfd(sender.pid);
    if (!now) return Standing::gone;
    const bool inside = membership.has_process(sender.pid);
    if (!has_pid_still(now)) return Standing::gone;
    return inside ? Standing::member : Standing::stranger;
  }
  const bool inside = membership.has_process(sender.pid);
  const bool was_of_sender = has_pid_still(sender.pidfd);
  if (inside && was_of_sender) return Standing::member;
  if (membership.has_cgroup)
    if (const auto cgroup = kept_cgroup(sender.pidfd))
      return membership.has_cgroup(*cgroup) ? Standing::member : Standing::stranger;
  return was_of_sender ? Standing::stranger : Standing::gone;
}

base::UniqueFd member_process(pid_t pid, const Membership& membership) {
  base::UniqueFd pidfd = base::open_pidfd(pid);
  if (!pidfd || !membership.has_process(pid) || !has_pid_still(pidfd)) return {};
  return pidfd;
}

}  // namespace updagent::launch
