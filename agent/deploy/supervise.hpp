// Finding, starting and becoming the supervisor of an app; what it has to run.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "agent/base/clock.hpp"
#include "agent/config/service_request.hpp"
#include "agent/config/settings.hpp"
#include "agent/release/manifest.hpp"
#include "agent/service/client.hpp"

namespace updagent::deploy {

// From fork to a control socket that answers: milliseconds.
inline constexpr base::Milliseconds kSupervisorPatience{20'000};

// What of a release's service will really run here. `user` as decided for all its commands ("" =
// ours). Code::privilege for what the node does not grant.
base::Result<config::ServiceResolution> resolve(const release::Manifest& manifest,
                                                const config::Layout& layout,
                                                const config::AppSettings& settings,
                                                const std::string& user);

// Code::not_found when none runs.
base::Result<service::Client> connect_supervisor(const config::Layout& layout,
                                                 const std::string& app);
// One that died is started again, as it has left generations behind; Code::not_found when nothing
// of the app runs.
base::Result<service::Client> find_supervisor(const config::Layout& layout, const std::string& app);
// Starts one when none runs: as its unit, or detached from the caller in every way.
base::Result<service::Client> ensure_supervisor(const config::Layout& layout,
                                                const std::string& app);

// The program and its words; `service_fd` as in supervisor_main.cpp (-1: nothing is started).
base::Result<std::vector<std::string>> supervisor_command(const config::Layout& layout,
                                                          const std::string& app, int service_fd);

}  // namespace updagent::deploy
