// What a supervisor leaves for the next one: a file that is replaced as a whole, without waiting
// for the disk, since it is worth nothing after the boot that it was written in.
#pragma once

#include <string>
#include <string_view>

#include "agent/base/error.hpp"
#include "agent/base/strict_json.hpp"

namespace updagent::service {

// Of the state file and of what goes over execve(2). Another one is not understood.
inline constexpr int kStateVersion = 1;
// Code::requires_agent.
base::Status check_state_version(const base::Json& state);

base::Status replace_file(const std::string& path, std::string_view content);
// null: there is none, or it is of another boot. Code::damaged when it can't be understood,
// Code::requires_agent when another version of this program wrote it in this boot.
base::Result<base::Json> read_state(const std::string& path);

}  // namespace updagent::service
