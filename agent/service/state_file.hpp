// A small file that is replaced as a whole, without waiting for the disk: it is worth nothing after
// the boot that it was written in.
#pragma once

#include <string>
#include <string_view>

#include "agent/base/error.hpp"

namespace updagent::service {

base::Status replace_file(const std::string& path, std::string_view content);

}  // namespace updagent::service
