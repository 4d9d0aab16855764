// systemd, where it is PID 1: the unit in which the supervisor of an app runs. Everything here asks
// or tells systemd by `systemctl`, which as root needs no message bus, and waits a bounded time.
#pragma once

#include <string>
#include <string_view>

#include "agent/base/clock.hpp"
#include "agent/base/error.hpp"
#include "agent/config/settings.hpp"

namespace updagent::deploy {

// systemd answers from its loop; it is busy for moments at a boot or while it reads its units.
inline constexpr base::Milliseconds kSystemdPatience{10'000};
// As long as the unit's own TimeoutStartSec: the committed tree is hashed before it is started.
inline constexpr base::Milliseconds kUnitStartPatience{900'000};
inline constexpr const char* kRecoverUnit = "updagent-recover.service";

// Where systemd is PID 1 supervisors run as its units only, and only for the node's own root.
bool runs_as_unit(const config::Layout& layout);

std::string unit_name(const std::string& app);  // "updagent@shop.service"
// This process is what systemd started as the unit: it sits in the unit's own cgroup.
bool in_own_unit(const std::string& app);
// `membership`: of /proc/PID/cgroup.
bool is_in_unit(std::string_view membership, const std::string& unit);

base::Status start_unit(const std::string& app);
// From the next boot on it is started, after deployments that were cut off have been ended; and now
// if it does not run.
base::Status enable_unit(const std::string& app);
// No boot starts it any more. What runs goes on.
base::Status disable_unit(const std::string& app);
// Whether a boot starts it: "enabled", "disabled", "masked" ... as systemctl says it.
base::Result<std::string> unit_file_state(const std::string& app);
// What systemd is about to do with the unit: "stop", "restart", "start"; "" = nothing.
base::Result<std::string> unit_job(const std::string& app);
std::string job_type(std::string_view jobs, const std::string& unit);  // of `systemctl list-jobs`

}  // namespace updagent::deploy
