// Says in words why a command could not be started.
#pragma once

#include <string>
#include <vector>

#include "agent/base/child_process.hpp"
#include "agent/base/error.hpp"
#include "agent/base/keeper.hpp"

namespace updagent::base {

// `candidates` are the paths that the keeper tried for argv[0].
Error start_error(const ChildSpec& spec, const std::vector<std::string>& candidates,
                  const keeper::StartFailure& failure);

}  // namespace updagent::base
