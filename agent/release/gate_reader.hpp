// Reads a gate from a tree, in either language, and writes it as the manifest has it.
#pragma once

#include "agent/base/error.hpp"
#include "agent/base/strict_json.hpp"
#include "agent/release/dialect.hpp"
#include "agent/release/fields.hpp"
#include "agent/release/rollout.hpp"

namespace updagent::release {

// Each type has keys of its own. Words, types and keys are checked, the rest is check_gates().
base::Status read_gate(const Fields& fields, const Dialect& dialect, Gate& into);

// Everything that has a default is said, but for what "none" or "0" leaves out.
base::Json gate_to_json(const Gate& gate);

}  // namespace updagent::release
