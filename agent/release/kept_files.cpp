#include "agent/release/kept_files.hpp"

#include <algorithm>
#include <utility>

namespace updagent::release {

WantedFiles::WantedFiles(const EntryTable& table) : table_(table) {
  std::size_t files = 0;
  const auto counts = [&](std::size_t i) {
    const EntryView entry = table.at(i);
    return entry.type == EntryType::file && entry.size != 0;
  };
  for (std::size_t i = 0; i < table.size(); ++i) files += counts(i) ? 1U : 0U;
  by_digest_.reserve(files);
  for (std::size_t i = 0; i < table.size(); ++i)
    if (counts(i)) by_digest_.push_back(static_cast<std::uint32_t>(i));
  std::sort(by_digest_.begin(), by_digest_.end(), [&](std::uint32_t a, std::uint32_t b) {
    const auto order = table.sha256_of(a) <=> table.sha256_of(b);
    return order == 0 ? a < b : order < 0;
  });
}

std::span<const std::uint32_t> WantedFiles::with(const base::Digest& digest) const {
  const auto first =
      std::partition_point(by_digest_.begin(), by_digest_.end(),
                           [&](std::uint32_t entry) { return table_.sha256_of(entry) < digest; });
  const auto end = std::partition_point(first, by_digest_.end(), [&](std::uint32_t entry) {
    return table_.sha256_of(entry) == digest;
  });
  return {first, end};
}

KeptFiles::KeptFiles(const WantedFiles& wanted, Alike alike)
    : wanted_(&wanted), alike_(std::move(alike)), stayed_(wanted.table().size(), false) {}

base::Result<KeptFiles> KeptFiles::find(const WantedFiles& wanted, base::ByteSource& kept_manifest,
                                        Alike alike) {
  KeptFiles found(wanted, std::move(alike));
  UPD_TRY(parse_description(kept_manifest, [&found](const EntryView& kept) {
    found.take(kept);
    return base::ok();
  }));
  const EntryTable& table = wanted.table();
  // path_at grows in the order of the kept manifest, which is that of its paths
  std::sort(found.moved_.begin(), found.moved_.end(), [&](const Moved& a, const Moved& b) {
    const auto order = table.sha256_of(a.like) <=> table.sha256_of(b.like);
    return order == 0 ? a.path_at < b.path_at : order < 0;
  });
  found.moved_.shrink_to_fit();
  return found;
}

void KeptFiles::take(const EntryView& kept) {
  if (kept.type != EntryType::file || kept.size == 0) return;
  const EntryTable& table = wanted_->table();
  if (const auto same = table.find(kept.path)) {
    const EntryView wanted = table.at(*same);
    if (wanted.type == EntryType::file && wanted.sha256 == kept.sha256 && alike_(kept, wanted)) {
      stayed_[*same] = true;
      return;
    }
  }
  add_moved(kept);
}

void KeptFiles::add_moved(const EntryView& kept) {
  const std::size_t bytes = sizeof(Moved) + kept.path.size();
  if (bytes > kMaxMovedBytes - moved_bytes_) return;
  const auto wanted = wanted_->with(kept.sha256);
  for (const std::uint32_t entry : wanted.first(std::min(wanted.size(), kMaxScanned))) {
    if (!alike_(kept, wanted_->table().at(entry))) continue;
    moved_.push_back({entry, paths_.add(kept.path), static_cast<std::uint16_t>(kept.path.size())});
    moved_bytes_ += bytes;
    return;
  }
}

std::vector<std::string_view> KeptFiles::candidates(const EntryView& entry) const {
  std::vector<std::string_view> found;
  if (entry.type != EntryType::file || entry.size == 0) return found;
  const EntryTable& table = wanted_->table();
  const auto here = table.find(entry.path);
  if (here && stayed_[*here]) found.push_back(table.at(*here).path);
  const auto wanted = wanted_->with(entry.sha256);
  for (const std::uint32_t other : wanted.first(std::min(wanted.size(), kMaxScanned))) {
    if (found.size() == kMaxCandidates) return found;
    if (other != here && stayed_[other] && alike_(table.at(other), entry))
      found.push_back(table.at(other).path);
  }
  auto moved = std::partition_point(moved_.begin(), moved_.end(), [&](const Moved& row) {
    return table.sha256_of(row.like) < entry.sha256;
  });
  for (std::size_t scanned = 0; moved != moved_.end() && scanned < kMaxScanned;
       ++moved, ++scanned) {
    if (found.size() == kMaxCandidates || table.sha256_of(moved->like) != entry.sha256) break;
    if (alike_(table.at(moved->like), entry))
      found.push_back(paths_.at(moved->path_at, moved->path_length));
  }
  return found;
}

std::size_t KeptFiles::memory_bytes() const {
  return stayed_.capacity() / 8 + moved_.capacity() * sizeof(Moved) + paths_.memory_bytes();
}

}  // namespace updagent::release
