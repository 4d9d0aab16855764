// What both ends of the control socket know, and write the same way.
#pragma once

#include "agent/base/clock.hpp"
#include "agent/base/error.hpp"
#include "agent/base/strict_json.hpp"

namespace updagent::service {

inline constexpr int kControlVersion = 1;
// A weight holds for so long after the driver last said so (renewed every 2 s): long enough for a
// driver that waits for a processor, short enough for users who got a bad candidate.
inline constexpr base::Milliseconds kLease{10'000};

base::Json error_to_json(const base::Error& error);
base::Error error_from_json(const base::Json& json);

}  // namespace updagent::service
