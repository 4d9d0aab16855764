// The names of capabilities(7), as linux/capability.h numbers them.
#pragma once

#include <linux/capability.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

namespace updagent::base {

// The index is the number. A kernel that lacks one of the last refuses it when it is set.
inline constexpr std::array<std::string_view, 41> kCapabilityNames = {
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
};
static_assert(kCapabilityNames[CAP_NET_BIND_SERVICE] == "CAP_NET_BIND_SERVICE");
static_assert(kCapabilityNames[CAP_SYS_RESOURCE] == "CAP_SYS_RESOURCE");
static_assert(kCapabilityNames[CAP_CHECKPOINT_RESTORE] == "CAP_CHECKPOINT_RESTORE");

// In capitals, with its CAP_.
constexpr std::optional<int> capability_number(std::string_view name) {
  const auto* found = std::find(kCapabilityNames.begin(), kCapabilityNames.end(), name);
  if (found == kCapabilityNames.end()) return std::nullopt;
  return static_cast<int>(found - kCapabilityNames.begin());
}

}  // namespace updagent::base
