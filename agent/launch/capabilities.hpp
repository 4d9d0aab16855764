// Names and sets of capabilities(7).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "agent/base/error.hpp"

namespace updagent::launch {

using CapabilitySet = std::uint64_t;  // bit N is capability N of linux/capability.h
inline constexpr CapabilitySet kNoCapabilities = 0;
inline constexpr CapabilitySet kAllCapabilities = ~CapabilitySet{0};

constexpr CapabilitySet capability_bit(int number) {
  return CapabilitySet{1} << number;
}

// "CAP_NET_BIND_SERVICE", any case. Code::config_invalid with the nearest name.
base::Result<CapabilitySet> parse_capabilities(std::span<const std::string> names);
// "CAP_CHOWN, CAP_KILL"; "none" for the empty set; a number where we know no name.
std::string capability_names(CapabilitySet set);

// The caller's own permitted set.
CapabilitySet own_capabilities();
// Highest number that this kernel knows (/proc/sys/kernel/cap_last_cap).
int last_capability();

}  // namespace updagent::launch
