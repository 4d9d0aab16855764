// One deployment drawn for people: its stages as bars over time, and why it ended as it did.
#pragma once

#include <string>
#include <vector>

#include "agent/journal/journal.hpp"
#include "cli/session.hpp"

namespace updagent::cli {

inline constexpr std::size_t kMaxTimelineEvents = 10'000;  // a deployment has some dozens

// `events`: of one trace, oldest first. `row` may be null (refused before its app was known).
std::vector<std::string> draw_timeline(const Session& session,
                                       const std::vector<journal::Event>& events,
                                       const journal::DeploymentRow* row);

}  // namespace updagent::cli
