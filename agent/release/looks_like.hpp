// Names what a file is that is no artifact, so that the refusal helps: an HTML error page, a zip.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "agent/base/error.hpp"

namespace updagent::release {

// Code::not_an_artifact for a file that begins with `head` and is neither gzip nor zstd.
base::Error not_compressed(std::span<const std::uint8_t> head);
// Code::not_an_artifact for a compressed file whose contents begin with `head`, which is not the
// envelope's tar header.
base::Error no_envelope(std::span<const std::uint8_t> head);

bool is_zstd_skippable(std::span<const std::uint8_t> bytes);    // RFC 8878, 3.1.2
std::string hex_of_first(std::span<const std::uint8_t> bytes);  // "1f 8b 08 00", four at most

}  // namespace updagent::release
