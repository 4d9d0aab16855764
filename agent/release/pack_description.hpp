// What a release says about itself: updagent.toml (from --spec or the input) and the command line.
#pragma once

#include <vector>

#include "agent/base/error.hpp"
#include "agent/release/manifest.hpp"
#include "agent/release/pack.hpp"
#include "agent/release/pack_input.hpp"

namespace updagent::release {

// `entries` as gathered from `input`. The manifest lacks created, source, builder and entries.
// Code::usage with the options to add when app or version are said nowhere.
base::Result<Manifest> describe_release(const PackRequest& request, PackInput& input,
                                        const InputEntries& entries);

// Hooks and probes whose program is not in the tree or not executable: they would fail on the node.
void note_missing_programs(const Manifest& manifest, PackNotes& notes);

}  // namespace updagent::release
