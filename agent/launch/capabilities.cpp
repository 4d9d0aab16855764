#include "agent/launch/capabilities.hpp"

#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cctype>
#include <vector>

#include "agent/base/capability_names.hpp"
#include "agent/base/files.hpp"
#include "agent/base/text.hpp"

namespace updagent::launch {
namespace {

using base::kCapabilityNames;
constexpr int kBitsInSet = 64;

std::string upper(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return out;
}

base::Error unknown_capability(const std::string& name) {
  const std::vector<std::string> known(kCapabilityNames.begin(), kCapabilityNames.end());
  base::Error error = base::Error(base::Code::config_invalid,
                                  "there is no capability '" + base::printable(name) + "'")
                          .expected("a name of capabilities(7), as CAP_NET_BIND_SERVICE");
  const auto near = base::nearest(upper(name), known);
  return near ? std::move(error).hint("did you mean '" + *near + "'?") : error;
}

}  // namespace

base::Result<CapabilitySet> parse_capabilities(std::span<const std::string> names) {
  CapabilitySet set = kNoCapabilities;
  for (const std::string& name : names) {
    const auto number = base::capability_number(upper(name));
    if (!number) return unknown_capability(name);
    set |= capability_bit(*number);
  }
  return set;
}

std::string capability_names(CapabilitySet set) {
  std::vector<std::string> names;
  for (int number = 0; number < kBitsInSet; ++number) {
    if ((set & capability_bit(number)) == 0) continue;
    const auto index = static_cast<std::size_t>(number);
    names.push_back(index < kCapabilityNames.size() ? std::string(kCapabilityNames[index])
                                                    : "capability " + std::to_string(number));
  }
  return names.empty() ? "none" : base::join(names, ", ");
}

CapabilitySet own_capabilities() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> halves{};
  if (::syscall(SYS_capget, &header, halves.data()) != 0) return kNoCapabilities;
  return CapabilitySet{halves[1].permitted} << 32 | halves[0].permitted;
}

int last_capability() {
  constexpr std::size_t kMaxNumberText = 16;
  const auto text = base::read_file("/proc/sys/kernel/cap_last_cap", kMaxNumberText);
  const auto number =
      text ? base::parse_u64(std::string_view(*text).substr(0, text->find('\n'))) : std::nullopt;
  const int known = static_cast<int>(kCapabilityNames.size()) - 1;
  return number && *number < kBitsInSet ? static_cast<int>(*number) : known;
}

}  // namespace updagent::launch
