// The bytes behind a hash, from the detail exactly as it is stored: verify() must not lose a change
// that parsing and printing again would smooth over.
#pragma once

#include <string>
#include <string_view>

#include "agent/journal/event.hpp"

namespace updagent::journal {

std::string json_text(const Json& value);  // compact, keys sorted: as a detail is stored
std::string canonical(const Event& event, std::string_view detail);

}  // namespace updagent::journal
