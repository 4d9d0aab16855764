// Which files of a kept release a new one can take instead of writing them: found by one pass over
// the kept release's manifest, against the new one's table. Memory is bounded, whatever the sizes:
// a file that stayed where it was costs a bit, one that moved costs its path, up to a bound.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "agent/base/byte_source.hpp"
#include "agent/release/manifest.hpp"
#include "agent/release/text_arena.hpp"

namespace updagent::release {

// The files of a new release by digest, empty ones left out: 4 bytes for each.
class WantedFiles {
 public:
  // `table` stays where it is and outlives this.
  explicit WantedFiles(const EntryTable& table);

  const EntryTable& table() const { return table_; }
  // Their places in the table, in the order of the paths.
  std::span<const std::uint32_t> with(const base::Digest& digest) const;

 private:
  const EntryTable& table_;
  std::vector<std::uint32_t> by_digest_;
};

class KeptFiles {
 public:
  // Whether a file with the same bytes can stand for the other one: as for mode and mtime.
  using Alike = std::function<bool(const EntryView& kept, const EntryView& wanted)>;

  // Of files that stand elsewhere in the kept release, paths of this many bytes are remembered; the
  // others are written again.
  static constexpr std::size_t kMaxMovedBytes = 2UL * 1024 * 1024;
  // A release with a thousand copies of one file must not cost a thousand looks for each.
  static constexpr std::size_t kMaxCandidates = 4;
  static constexpr std::size_t kMaxScanned = 64;

  // `wanted` outlives the result. Errors are those of parse_description().
  static base::Result<KeptFiles> find(const WantedFiles& wanted, base::ByteSource& kept_manifest,
                                      Alike alike);

  // Paths in the kept release whose files have, by its manifest, the bytes of `entry` and are
  // alike: the one at the same path first. Valid as long as the table and this.
  std::vector<std::string_view> candidates(const EntryView& entry) const;
  std::size_t memory_bytes() const;

 private:
  struct Moved {
    std::uint32_t like;  // a wanted file with these bytes that it can stand for
    std::uint32_t path_at;
    std::uint16_t path_length;
  };

  KeptFiles(const WantedFiles& wanted, Alike alike);
  void take(const EntryView& kept);
  void add_moved(const EntryView& kept);

  const WantedFiles* wanted_;
  Alike alike_;
  std::vector<bool> stayed_;  // of each wanted entry: the kept release has its file at its path
  std::vector<Moved> moved_;  // by digest, then path
  std::size_t moved_bytes_ = 0;
  TextArena paths_;
};

}  // namespace updagent::release
