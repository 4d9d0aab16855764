// Ending what a dead driver left open. Private to deploy/.
#pragma once

#include <string>

#include "agent/deploy/deployment.hpp"

namespace updagent::deploy {

// For the holder of the app's lock: ends the app's open deployment, if there is one.
base::Status recover_locked(const Context& context, journal::Journal* journal,
                            const std::string& app);

}  // namespace updagent::deploy
