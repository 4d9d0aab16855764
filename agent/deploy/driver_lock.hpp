// Who drives an app has its lock: deployments, and orders that must not run beside one.
#pragma once

#include <string>

#include "agent/base/clock.hpp"
#include "agent/base/file_lock.hpp"
#include "agent/base/interrupt.hpp"
#include "agent/config/settings.hpp"

namespace updagent::deploy {

// Code::busy, in words of the app, when somebody else has it for longer than `wait`.
base::Result<base::FileLock> take_driver_lock(const config::Layout& layout, const std::string& app,
                                              base::Milliseconds wait, base::Interrupt* interrupt);
// Without taking anything from a driver.
bool is_driven(const config::Layout& layout, const std::string& app);

}  // namespace updagent::deploy
