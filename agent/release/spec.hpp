// updagent.toml: what the author of a release writes; pack turns it into the manifest.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "agent/base/error.hpp"
#include "agent/release/manifest.hpp"

namespace updagent::release {

inline constexpr std::size_t kMaxSpecBytes = 1024 * 1024;

// What the command line says instead of the file; either may name app and version.
struct SpecOverrides {
  std::optional<std::string> app;
  std::optional<std::string> version;
};

// Fills everything of the manifest but created, source, builder and entries. Unknown keys are
// refused with "did you mean", and so is a file that leaves app or version open when `overrides`
// doesn't say them. Code::usage: this is the packer's own file, nothing signed yet;
// Code::strategy_unsupported for the strategies that this version can't run. An empty text is a
// spec too: what is packed without an updagent.toml.
base::Result<Manifest> parse_spec(std::string_view toml, std::string_view name_for_errors,
                                  const SpecOverrides& overrides = {});

}  // namespace updagent::release
