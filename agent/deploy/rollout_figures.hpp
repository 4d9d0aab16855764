// Reads the supervisor's answer to `measure`. Counters there are those of a slot, which generations
// before may have had: all figures are differences to an earlier answer. Private to deploy/.
#pragma once

#include <cstdint>
#include <optional>

#include "agent/base/strict_json.hpp"
#include "agent/health/gates.hpp"

namespace updagent::deploy {

// New connections of users that came to the generation between the two answers. A counter that fell
// was made anew (the steering had been lost): it counts from 0.
std::uint64_t connections_since(const base::Json& now, const base::Json& before,
                                std::uint64_t generation);
std::uint64_t all_connections_since(const base::Json& now, const base::Json& before);

// Nothing: the generation is not among those that live. `thorough` is the newest answer that has
// memory and descriptors, too.
std::optional<health::KernelFigures> kernel_figures(const base::Json& now,
                                                    const base::Json& thorough,
                                                    const base::Json& before,
                                                    std::uint64_t generation);

}  // namespace updagent::deploy
