// A TOML document as the same kind of tree that JSON gives, so that one reader serves both.
#pragma once

#include <string_view>

#include "agent/base/error.hpp"
#include "agent/base/strict_json.hpp"

namespace updagent::release {

// Code::usage for what is not TOML (with line and column), for dates and fractions, which no key of
// ours takes (with the key's place), and for what is nested deeper than base::kMaxJsonDepth.
base::Result<base::Json> parse_toml_tree(std::string_view toml);

}  // namespace updagent::release
