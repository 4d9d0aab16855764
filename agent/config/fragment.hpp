// One file of the configuration, read over the settings so far.
#pragma once

#include <string>

#include "agent/base/error.hpp"
#include "agent/config/key_table.hpp"

namespace updagent::config {

// `scope` app: a file of apps.d, where keys of the whole node are refused.
base::Status apply_fragment(const std::string& file, const std::string& content, Scope scope,
                            Settings& settings);

}  // namespace updagent::config
