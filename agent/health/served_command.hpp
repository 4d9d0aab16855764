// A command that asks the service while this process stays awake for it: forwarders are served,
// and the deployment is looked after.
#pragma once

#include "agent/base/child_process.hpp"
#include "agent/health/probes.hpp"

namespace updagent::health {

// Blocks until the command ended or was ended, as base::run_child() does with `context.interrupt`.
// Meanwhile serves `context.served` and calls `context.on_tick` at least once a second; an error of
// that ends the command and is the result. Nothing else of the context is looked at.
base::Result<base::ChildResult> run_served(const base::ChildSpec& spec,
                                           const ProbeContext& context);

}  // namespace updagent::health
