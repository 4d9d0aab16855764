// Telling others how a deployment ended ([[notify]]): a webhook or a command, in a process of its
// own that nobody waits for. It can never change or delay a deployment's end; what could not be
// delivered after the bounded retries is an event "notify.failed".
#pragma once

#include <string>

#include "agent/deploy/deployment.hpp"

namespace updagent::deploy {

// `document`: the result's JSON. To it are added node, and the audit head (count and hash): a head
// that is kept elsewhere is what makes tampering by root provable.
void notify(const Context& context, const DeployResult& result, const std::string& document);

}  // namespace updagent::deploy
