// What a supervisor that comes up is to do: after a boot, after the one before it died, when a
// deployment needs one, and when the operator wants the app stopped.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/error.hpp"
#include "agent/config/settings.hpp"

namespace updagent::deploy {

// `updagent stop`: recorded in the journal, until `start` or a commit.
struct StopWish {
  std::string by;
  std::int64_t since_us = 0;
};
// Nothing: the app is not to be stopped. Without a journal nobody wished anything.
base::Result<std::optional<StopWish>> stop_wish(const config::Layout& layout,
                                                const std::string& app);

// The release that runs where nothing does (at boot, `start`, `restart`) is the committed one. But
// where `current` is another one whose rollback_floor is above it, that one has touched the data
// and was left in place for a person to decide (exit 8): then it is `current`. A handoff that is
// not ended yet counts as undecided: the old release has run beside it (docs/hooks.md,
// rollback_floor).

enum class Duty {
  serve,    // take over what lives; where nothing does, start the release to start
  adopt,    // take over what lives and start nothing: somebody is about to say what
  end,      // take over what lives and end it: the app is to be stopped
  nothing,  // it is to be stopped, and nothing of it lives
};

// What the rule needs to know.
struct Standpoint {
  bool stop_wanted = false;
  bool living = false;  // generations of this boot that a supervisor can take over
  bool driven = false;  // a deployment (or `stop`) has the app's lock
};
Duty duty_at(const Standpoint& standpoint);

struct Order {
  Duty duty = Duty::serve;
  std::string service;  // of Duty::serve: of the release to start, as JSON; "" = adopt only
  std::vector<std::string> warnings;
};
// Without looking at what would run: Duty::nothing means that nobody has to come up.
base::Result<Duty> duty_of(const config::Layout& layout, const std::string& app);
// Looks whether the tree to start is what was signed before it may be started (Code::damaged);
// generations that live are not kept waiting for that. What can't be resolved while generations
// live, or while a deployment is about to bring something better, is a warning.
base::Result<Order> order_for(const config::Layout& layout, const std::string& app);

// The service of the release to start as it would run now, as JSON, its tree looked at.
// Code::not_found without one, Code::damaged where the tree is not what was signed.
base::Result<std::string> sound_service_to_start(const config::Layout& layout,
                                                 const std::string& app);

// A supervisor that died left generations which may serve on.
bool has_living_generations(const config::Layout& layout, const std::string& app);

}  // namespace updagent::deploy
