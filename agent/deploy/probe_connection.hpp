// A connection to one version of a service that runs, for people: outside of any deployment.
#pragma once

#include <cstdint>
#include <string>

#include "agent/base/clock.hpp"
#include "agent/base/unique_fd.hpp"
#include "agent/config/settings.hpp"

namespace updagent::deploy {

inline constexpr base::Milliseconds kProbeConnectPatience{10'000};

struct ProbeConnection {
  base::UniqueFd fd;             // blocks
  std::string first;             // to be sent before anything else: the PROXY header, or ""
  std::uint64_t generation = 0;  // that it reaches
};

// To the newest generation of `version` that lives, at the listener of that name ("": the first
// that can be asked). Code::not_found when the app does not run, or no such version or listener;
// strategy_unsupported where connections are shared.
base::Result<ProbeConnection> connect_to_version(const config::Layout& layout,
                                                 const std::string& app, const std::string& version,
                                                 const std::string& listener);

}  // namespace updagent::deploy
