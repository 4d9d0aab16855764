// The first gzip member or zstd frame of an artifact: tar entry 1, the envelope, and nothing else.
// So a signature can be added without touching a byte of the rest.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "agent/base/error.hpp"
#include "agent/release/compress.hpp"

namespace updagent::release {

// Begins and ends a member. Code::envelope_invalid when it is larger than readers take.
base::Status write_envelope_member(Compressor& compressor, std::string_view envelope,
                                   std::int64_t created);

struct EnvelopeMember {
  Compression compression = Compression::gzip;
  std::int64_t created = 0;  // the entry's mtime: the release's
  std::uint64_t length = 0;  // compressed bytes from the start of the file
};

// From the first bytes of an artifact (all of it, or at least kHeadBytes).
base::Result<EnvelopeMember> find_envelope_member(std::string_view head);

}  // namespace updagent::release
