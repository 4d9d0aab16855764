// Reads [rollout] and [preflight] from a tree, in either language, and writes them as the manifest
// has them.
#pragma once

#include <string_view>

#include "agent/base/error.hpp"
#include "agent/base/strict_json.hpp"
#include "agent/release/dialect.hpp"
#include "agent/release/fields.hpp"
#include "agent/release/rollout.hpp"

namespace updagent::release {

// Keys, words and types are checked, the rest is check_rollout(). What only a handoff can do is
// refused with any other strategy. In updagent.toml step_duration and min_connections are what a
// step has that says nothing else; `into.watch` is what holds when the file has none.
base::Status read_rollout(const Fields& fields, const Dialect& dialect, std::string_view strategy,
                          Rollout& into);
base::Status read_preflight(const Fields& fields, const Dialect& dialect, Preflight& into);

// Empty where nothing differs from the default.
base::Json rollout_to_json(const Rollout& rollout);
base::Json preflight_to_json(const Preflight& preflight);

}  // namespace updagent::release
