// Bounds of single values, for every part of a description: what a release, a node and the
// supervisor take is the same.
#pragma once

#include <cstddef>

#include "agent/base/clock.hpp"

namespace updagent::release {

inline constexpr std::size_t kMaxCommandWords = 256;
inline constexpr std::size_t kMaxStringBytes = 16 * 1024;  // any single string that is not a path
inline constexpr std::size_t kMaxEnvironment = 256;
inline constexpr std::size_t kMaxNameLength =
    64;  // of probes, listeners, users: they stand in tables
inline constexpr std::size_t kMaxLabelBytes = 1024;  // builder, source: shown on one line
inline constexpr base::Milliseconds kShortestSpan{1};
inline constexpr base::Milliseconds kLongestSpan{24 * 60 * 60 *
                                                 1000};  // longer: a typing error in the unit

}  // namespace updagent::release
