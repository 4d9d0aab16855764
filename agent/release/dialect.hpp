// The languages that a description is written in. A value has the same rules in all of them; they
// differ in how keys are spelt and durations are given.
#pragma once

#include <string_view>

#include "agent/base/error.hpp"

namespace updagent::release {

// "probes[0].timeout_ms" in the manifest is "probe[0].timeout" in updagent.toml.
struct Dialect {
  base::Code code;  // of every refusal
  std::string_view probes;
  std::string_view listeners;
  std::string_view workers;  // of the service in what is signed, at the top in updagent.toml
  std::string_view gates;
  std::string_view duration_suffix;
  // updagent.toml: durations as "30s" instead of 30000, what has a default may be left out.
  bool is_for_people;
};
inline constexpr Dialect kManifestDialect = {
    .code = base::Code::manifest_invalid,
    .probes = "probes",
    .listeners = "listeners",
    .workers = "workers",
    .gates = "gates",
    .duration_suffix = "_ms",
    .is_for_people = false,
};
inline constexpr Dialect kSpecDialect = {
    .code = base::Code::usage,
    .probes = "probe",
    .listeners = "listener",
    .workers = "worker",
    .gates = "gate",
    .duration_suffix = "",
    .is_for_people = true,
};

}  // namespace updagent::release
