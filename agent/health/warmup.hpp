// Requests that fill a candidate's caches before its first user: what they bring is thrown away.
#pragma once

#include <cstdint>
#include <string>

#include "agent/health/probes.hpp"
#include "agent/release/rollout.hpp"

namespace updagent::health {

// At a time, each with a connection of its own that is kept from one request to the next.
inline constexpr std::size_t kWarmupAtOnce = 4;

struct WarmupResult {
  std::int64_t wanted = 0;
  std::int64_t answered = 0;  // with whatever status
  std::string problem;        // of the last request that got no answer
  bool timed_out = false;     // not all were asked within the time
  bool interrupted = false;
};

// Asks for each path `count` times, the first of all paths first. `origin` is where they are
// ("http://127.0.0.1:8080"), of the production port: `context.steer` brings them to the candidate.
// `proxy_header`: each connection begins with the header of the PROXY protocol. Nobody is judged:
// what could not be had is counted. An error only where nothing could be asked, or of
// context.on_tick.
base::Result<WarmupResult> warm_up(const release::Warmup& warmup, const std::string& origin,
                                   const ProbeContext& context, bool proxy_header);

}  // namespace updagent::health
