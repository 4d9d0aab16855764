// Whether a driver has an app: without taking anything from it.
#pragma once

#include <string>

#include "agent/config/settings.hpp"

namespace updagent::deploy {

bool is_driven(const config::Layout& layout, const std::string& app);

}  // namespace updagent::deploy
