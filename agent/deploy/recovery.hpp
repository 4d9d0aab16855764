// Ending what a dead driver left open. Private to deploy/.
#pragma once

#include <string>

#include "agent/deploy/deployment.hpp"

namespace updagent::deploy {

// For the holder of the app's lock: ends what a dead driver left open, and says how; nothing if
// there was nothing. An error: it could not be ended.
base::Result<std::optional<DeployResult>> recover_locked(const Context& context,
                                                         journal::Journal* journal,
                                                         const std::string& app);

}  // namespace updagent::deploy
