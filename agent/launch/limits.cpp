#include "agent/launch/limits.hpp"

#include <array>
#include <string_view>
#include <utility>

namespace updagent::launch {
namespace {

constexpr std::array<std::pair<int, std::string_view>, 16> kResources = {{
    {RLIMIT_CPU, "cpu"},
    {RLIMIT_FSIZE, "fsize"},
    {RLIMIT_DATA, "data"},
    {RLIMIT_STACK, "stack"},
    {RLIMIT_CORE, "core"},
    {RLIMIT_RSS, "rss"},
    {RLIMIT_NPROC, "nproc"},
    {RLIMIT_NOFILE, "nofile"},
    {RLIMIT_MEMLOCK, "memlock"},
    {RLIMIT_AS, "as"},
    {RLIMIT_LOCKS, "locks"},
    {RLIMIT_SIGPENDING, "sigpending"},
    {RLIMIT_MSGQUEUE, "msgqueue"},
    {RLIMIT_NICE, "nice"},
    {RLIMIT_RTPRIO, "rtprio"},
    {RLIMIT_RTTIME, "rttime"},
}};

}  // namespace

std::string resource_name(int resource) {
  for (const auto& [number, known] : kResources)
    if (number == resource) return std::string(known);
  return std::to_string(resource);
}

}  // namespace updagent::launch
