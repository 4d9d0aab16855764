// A node's secrets for the commands and services of an app. In a library of its own: the supervisor
// reads them at each start, without the rest of the configuration.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/error.hpp"

namespace updagent::config {

inline constexpr std::size_t kMaxEnvironmentFileBytes = 64 * 1024;  // fits execve(2) many times
// The variables of one of AppSettings::environment_files, in its order, each name once (the last
// wins). As systemd's EnvironmentFile= in the simple cases: NAME=value lines, # and ; comments,
// quotes around a whole value, no lines joined by a backslash. The file holds secrets: mode 0600,
// root's or ours; no error shows a value.
base::Result<std::vector<std::pair<std::string, std::string>>> read_environment_file(
    const std::string& path);

}  // namespace updagent::config
