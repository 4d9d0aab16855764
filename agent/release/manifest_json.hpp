// The manifest's description (all but `entries`) as a tree and back. docs/artifact.md, "Manifest".
#pragma once

#include "agent/base/error.hpp"
#include "agent/base/strict_json.hpp"
#include "agent/release/manifest.hpp"

namespace updagent::release {

// `root` is the manifest's object without `entries`. Keys, types and rules are checked.
base::Result<Manifest> description_from_json(const base::Json& root);
// Empty sections and defaults that the format leaves out are not there.
base::Json description_to_json(const Manifest& manifest);

}  // namespace updagent::release
