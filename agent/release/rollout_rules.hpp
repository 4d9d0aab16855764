// What the values of [rollout], [preflight] and [[gate]] may be, alone, together and beside the
// rest of a description. docs/artifact.md, "Rollout", "Gates" and "Preflight".
#pragma once

#include "agent/base/error.hpp"
#include "agent/release/dialect.hpp"
#include "agent/release/manifest.hpp"

namespace updagent::release {

// The service and the probes of `manifest` were checked. The error names the place as `dialect`
// spells it.
base::Status check_rollout(const Manifest& manifest, const Dialect& dialect);
base::Status check_preflight(const Manifest& manifest, const Dialect& dialect);
base::Status check_gates(const Manifest& manifest, const Dialect& dialect);

}  // namespace updagent::release
