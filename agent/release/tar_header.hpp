// One 512-byte tar header block, decoded strictly: the positive profile of docs/artifact.md, over
// POSIX ustar and pax (IEEE 1003.1-2017, pax, "ustar Interchange Format"). What two tar programs
// could read in two ways is refused here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "agent/base/error.hpp"
#include "agent/release/manifest.hpp"

namespace updagent::release {

inline constexpr std::size_t kTarBlock = 512;
// The three keys of the profile with two paths of PATH_MAX are less than 9 KiB.
inline constexpr std::uint64_t kMaxPaxBytes = 16 * 1024;
inline constexpr std::uint64_t kMaxUstarSize = 077777777777;  // eleven octal digits
// Sizes up to here can be rounded up to blocks and held in the int64 of libarchive and off_t.
inline constexpr std::uint64_t kMaxTarSize = static_cast<std::uint64_t>(INT64_MAX) - kTarBlock;

using TarBlock = std::span<const std::uint8_t, kTarBlock>;

// What the header blocks of one entry say.
struct TarHeader {
  std::string path;  // a directory's without its '/'
  EntryType type = EntryType::file;
  std::uint16_t mode = 0;
  std::uint64_t size = 0;
  std::int64_t mtime = 0;
  std::string link_target;
  // The path or target is beyond ASCII and came from a pax record. libarchive converts such text to
  // the locale and to Unicode NFC, so its own copy can't be compared byte by byte.
  bool converted_text = false;
};

struct PaxRecords {
  std::optional<std::string> path;
  std::optional<std::string> linkpath;
  std::optional<std::uint64_t> size;
};

bool is_zero_block(TarBlock block);
// Magic or a checksum that fits: some tar program would read it. For messages only.
bool looks_like_tar(std::span<const std::uint8_t> bytes);
// The path in a header block, without any check.
std::string raw_path(TarBlock block);
// `size` rounded up to whole blocks, minus `size`.
std::uint64_t padding_after(std::uint64_t size);

// For a block with typeflag 'x': the bytes of records that follow it. Nothing for other typeflags.
base::Result<std::optional<std::uint64_t>> decode_pax_size(TarBlock block);
// The records, well-formed, of the three known keys, each at most once.
base::Result<PaxRecords> decode_pax_records(std::string_view records);
// Any other block; `pax` holds the records that stood before it (if any).
base::Result<TarHeader> decode_tar_header(TarBlock block, const PaxRecords& pax);

}  // namespace updagent::release
