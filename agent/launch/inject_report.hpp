// What inject says about a bind, in words.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "agent/base/error.hpp"
#include "agent/launch/inject_match.hpp"
#include "agent/launch/inject_target.hpp"

namespace updagent::launch {

// "cannot read the address that process 17 binds: Operation not permitted", with a hint for EPERM.
base::Error inject_problem(pid_t thread, const Outcome& outcome);
// What of the server's socket did not come over.
std::vector<std::string> replacement_notes(const Replacement& replacement);
// Why a bind that looks like a listener's was not given it; "" when there is nothing to say.
std::string misfit_note(const BindMatch& match, std::span<const InjectListener> listeners);

std::string listener_text(const InjectListener& listener);

}  // namespace updagent::launch
