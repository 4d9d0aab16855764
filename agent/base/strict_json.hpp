// JSON as artifacts and envelopes may carry it (RFC 8259, narrowed): UTF-8 without BOM, one value
// and nothing after it, no duplicate keys, no floats, integers within +-2^53, bounded depth.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "agent/base/error.hpp"

namespace updagent::base {

using Json = nlohmann::json;

inline constexpr int kMaxJsonDepth = 16;                                // the manifest needs 5
inline constexpr std::int64_t kMaxJsonInteger = std::int64_t{1} << 53;  // exact in every reader

enum class JsonNumbers : std::uint8_t {
  integers,
  any,  // documents of others (the answers of a Prometheus server): floats are kept as they are
};

// A small document as a tree. `code` is the error code for every refusal; `name` is used in it.
// Documents that can be large (the manifest) have a streaming reader of their own in release/.
Result<Json> parse_strict_json(std::string_view text, Code code, std::string_view name,
                               JsonNumbers numbers = JsonNumbers::integers);

}  // namespace updagent::base
