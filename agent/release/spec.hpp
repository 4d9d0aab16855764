// updagent.toml: what the author of a release writes; pack turns it into the manifest.
#pragma once

#include <string>
#include <string_view>

#include "agent/base/error.hpp"
#include "agent/release/manifest.hpp"

namespace updagent::release {

inline constexpr std::size_t kMaxSpecBytes = 1024 * 1024;

// Fills everything of the manifest but created, source, builder and entries. Unknown keys are
// refused with "did you mean". Code::usage: this is the packer's own file, nothing signed yet.
base::Result<Manifest> parse_spec(std::string_view toml, std::string_view name_for_errors);

}  // namespace updagent::release
