// What one entry of a release may be, seen alone: its path, mode, size, time and link target.
// docs/artifact.md, "Entries". EntryTable adds what depends on the other entries.
#pragma once

#include <string_view>

#include "agent/base/error.hpp"
#include "agent/release/manifest.hpp"

namespace updagent::release {

base::Status check_path(std::string_view path);
base::Status check_attributes(const EntryView& entry);
// Relative, and never above the top when it is resolved as it is spelt.
base::Status check_symlink_target(const EntryView& entry);

// "" for an entry at the top.
std::string_view parent_of(std::string_view path);
// Cuts the first component off `rest` and returns it; slashes in a row give empty ones.
std::string_view take_component(std::string_view& rest);

}  // namespace updagent::release
