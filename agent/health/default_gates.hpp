// The gates that nobody wrote. Two of them say what the language of conditions has no words for; in
// a gate's `condition` stands one of these texts, which no release can write: they are no
// conditions.
#pragma once

#include "agent/health/gates.hpp"

namespace updagent::health {

// The names have a colon, which those of a release's gates can't have.
inline constexpr const char* kHangGate = "kernel:hang";
inline constexpr const char* kMemoryGate = "kernel:memory";
inline constexpr const char* kOomGate = "kernel:oom_kills";
inline constexpr const char* kHangCondition = "connections are accepted";
inline constexpr const char* kMemoryCondition = "memory is near that of the active one";

// Shorter than this it may be a slow answer: a server with one thread accepts nothing meanwhile. A
// window that does not hold keeps the step open, so nothing that lasts is missed.
inline constexpr base::Milliseconds kShortestHang{10'000};

// A candidate that needs this much more than the active one leaks; less is a new cache.
inline constexpr double kMemoryTimes = 3;
inline constexpr double kMemoryMore = 128.0 * (1 << 20);

bool is_default(const release::Gate& gate);

}  // namespace updagent::health
