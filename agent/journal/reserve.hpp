// Some MiB that are given up when the disk is full during a rollback, so that it can be told.
#pragma once

#include <string>

#include "agent/base/error.hpp"

namespace updagent::journal {

// Makes the file when it is not there and the disk has room for more than it.
base::Status keep_reserve(const std::string& path);
// True: there was one, and its space is free now.
bool give_up_reserve(const std::string& path);

}  // namespace updagent::journal
