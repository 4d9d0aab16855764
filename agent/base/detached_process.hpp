// A process that has nothing to do with us any more: it outlives us, and nobody reaps it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "agent/base/error.hpp"

namespace updagent::base {

// Input, output and error of this process become /dev/null. False where that can't be opened: they
// are what they were. Async-signal-safe.
bool leave_standard_streams();

// In a session of its own, a child of init, with /dev/null as its three descriptors, no other of
// ours, default signals, umask 022 and `/` as its folder. argv[0] is a path. `in_child` is called
// before anything of that is changed; it may not fail. Whether the execve(2) succeeds nobody is
// told.
Status start_detached(const std::vector<std::string>& argv,
                      const std::vector<std::string>& environment,
                      const std::function<void()>& in_child = {});

}  // namespace updagent::base
