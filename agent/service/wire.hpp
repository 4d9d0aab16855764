// What both ends of the control socket write the same way.
#pragma once

#include "agent/base/error.hpp"
#include "agent/base/strict_json.hpp"

namespace updagent::service {

inline constexpr int kControlVersion = 1;

base::Json error_to_json(const base::Error& error);
base::Error error_from_json(const base::Json& json);

}  // namespace updagent::service
