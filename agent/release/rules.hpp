// What the values of a description may be: one set of rules for the manifest that a node reads, for
// updagent.toml that an author writes, and for the manifest that pack is about to sign.
// docs/artifact.md, "Description". Entries have rules of their own (EntryTable).
#pragma once

#include <optional>
#include <string_view>

#include "agent/base/error.hpp"
#include "agent/release/bounds.hpp"
#include "agent/release/dialect.hpp"
#include "agent/release/manifest.hpp"

namespace updagent::release {

inline constexpr std::size_t kMaxStatusRanges = 32;
inline constexpr int kMaxInARow = 1000;  // results of a probe; 1000 s at the default interval
inline constexpr int kMaxKeep = 1000;    // releases on one node

// One of service.hpp's, or Code::strategy_unsupported for the strategies of the design that this
// version lacks, or dialect.code for what is no strategy at all.
base::Status check_strategy(std::string_view strategy, const Dialect& dialect);

// Everything of a manifest but `entries`. The error names the place.
base::Status check_description(const Manifest& manifest, const Dialect& dialect);

// Once `entries` are known: a service's or worker's program that is to come with the release is in
// it, and can be executed. A hook's may be missing: it fails before anything is switched.
base::Status check_program(const Manifest& manifest, const Dialect& dialect);

// The hooks by name, in the order of the manifest's keys.
struct NamedHook {
  std::string_view name;
  std::optional<Command> Hooks::* hook;
};
inline constexpr NamedHook kNamedHooks[] = {
    {"post_commit", &Hooks::post_commit},
    {"post_rollback", &Hooks::post_rollback},
    {"post_switch", &Hooks::post_switch},
    {"pre_upgrade", &Hooks::pre_upgrade},
};

}  // namespace updagent::release
