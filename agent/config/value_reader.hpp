// One value of a configuration file, checked against its rule and put where it belongs.
#pragma once

// toml++ is a shared library here: its warnings and its parser are not compiled again
#include <toml++/toml.h>

#include <string>

#include "agent/base/error.hpp"
#include "agent/config/key_table.hpp"

namespace updagent::config {

// "'FILE' line N: " in front of every error of a file.
std::string place(const std::string& file, const toml::source_region& where);

base::Status read_value(const std::string& file, const toml::node& node, const Rule& rule,
                        const std::string& shown_path, Slot slot);

}  // namespace updagent::config
