// How a release wants to take its traffic, for `inspect`: steps, gates, preflight and workers.
#pragma once

#include <functional>
#include <string>

#include "agent/release/manifest.hpp"
#include "cli/session.hpp"

namespace updagent::cli {

// Adds the keys of docs/json.md, "inspect", to what has the rest of the manifest.
void add_rollout_json(const release::Manifest& manifest, Json& into);

// One call for each line: what it is of, and its text, not yet made printable.
using Row = std::function<void(std::string name, const std::string& value)>;
void print_rollout(const release::Manifest& manifest, const Row& row);

}  // namespace updagent::cli
