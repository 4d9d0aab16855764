// The first gzip member or zstd frame of an artifact: the envelope's tar entry and nothing else.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "agent/base/error.hpp"

namespace updagent::release {

// The envelope from the uncompressed bytes of the first part; `ended`: there are no more of them.
// Nothing while bytes are missing.
base::Result<std::optional<std::string>> envelope_of_first_part(std::span<const std::uint8_t> bytes,
                                                                bool ended);

}  // namespace updagent::release
