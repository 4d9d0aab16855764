// What a supervisor leaves for the next one: a file that is replaced as a whole, without waiting
// for the disk, since it is worth nothing after the boot that it was written in.
#pragma once

#include <string>
#include <string_view>

#include "agent/base/error.hpp"
#include "agent/base/strict_json.hpp"

namespace updagent::service {

base::Status replace_file(const std::string& path, std::string_view content);
// null: there is none, or it is of another boot. Code::damaged when it can't be understood.
base::Result<base::Json> read_state(const std::string& path);

}  // namespace updagent::service
