// What the values of a description may be: one set of rules for the manifest that a node reads, for
// updagent.toml that an author writes, and for the manifest that pack is about to sign.
// docs/artifact.md, "Description". Entries have rules of their own (EntryTable).
#pragma once

#include <optional>
#include <string_view>

#include "agent/base/error.hpp"
#include "agent/release/manifest.hpp"

namespace updagent::release {

inline constexpr std::size_t kMaxNameLength = 64;    // of probes and users: they stand in tables
inline constexpr std::size_t kMaxLabelBytes = 1024;  // builder, source: shown on one line
inline constexpr std::size_t kMaxStatusRanges = 32;
inline constexpr int kMaxInARow = 1000;  // results of a probe; 1000 s at the default interval
inline constexpr int kMaxKeep = 1000;    // releases on one node
inline constexpr base::Milliseconds kShortestSpan{1};
inline constexpr base::Milliseconds kLongestSpan{24 * 60 * 60 *
                                                 1000};  // longer: a typing error in the unit

// How the two languages differ where a rule names a place: "probes[0].timeout_ms" in the manifest
// is "probe[0].timeout" in updagent.toml.
struct Dialect {
  base::Code code;
  std::string_view probes;
  std::string_view duration_suffix;
};
inline constexpr Dialect kManifestDialect = {base::Code::manifest_invalid, "probes", "_ms"};
inline constexpr Dialect kSpecDialect = {base::Code::usage, "probe", ""};

// "files", or Code::strategy_unsupported for the strategies of the design that this version lacks,
// or dialect.code for what is no strategy at all.
base::Status check_strategy(std::string_view strategy, const Dialect& dialect);

// Everything of a manifest but `entries`. The error names the place.
base::Status check_description(const Manifest& manifest, const Dialect& dialect);

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
