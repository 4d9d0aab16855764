#include "agent/store/space.hpp"

#include <sys/statvfs.h>

#include <cerrno>
#include <limits>

#include "agent/base/text.hpp"
#include "agent/store/layout.hpp"

namespace updagent::store {
namespace {

using release::EntryType;
using release::EntryView;

// Inode and directory entry, beyond the blocks: 512 is an inode of xfs and btrfs with its name;
// ext4 has its inodes already and needs less.
constexpr std::uint64_t kMetadataPerEntry = 512;
// ext4 and xfs keep a shorter target inside the inode.
constexpr std::size_t kInlineTarget = 59;
constexpr std::uint64_t kUnlimited = std::numeric_limits<std::uint64_t>::max();

// Sizes come from a signed manifest, but no sum may wrap around even so.
std::uint64_t add(std::uint64_t a, std::uint64_t b) {
  return a > kUnlimited - b ? kUnlimited : a + b;
}

std::uint64_t whole_blocks(std::uint64_t bytes, std::uint64_t block) {
  return add(bytes, block - 1) / block * block;
}

SpaceNeed need_of(const EntryView& entry, const Reuse& reuse, std::uint64_t block) {
  switch (entry.type) {
    case EntryType::directory:
      return {block + kMetadataPerEntry, 1};
    case EntryType::symlink:
      return {(entry.link_target.size() > kInlineTarget ? block : 0) + kMetadataPerEntry, 1};
    case EntryType::hardlink:
      return {kMetadataPerEntry, 0};
    case EntryType::file:
      break;
  }
  if (reuse.is_likely(entry)) return {kMetadataPerEntry, reuse.is_cloning() ? 1U : 0U};
  return {add(whole_blocks(entry.size, block), kMetadataPerEntry), 1};
}

std::string figures(std::uint64_t bytes, std::uint64_t inodes, bool has_inodes) {
  std::string text = base::human_bytes(bytes);
  if (has_inodes) text += " and " + with_commas(inodes) + " inodes";
  return text;
}

}  // namespace

std::string with_commas(std::uint64_t number) {
  std::string text = std::to_string(number);
  for (std::size_t at = text.size(); at > 3; at -= 3) text.insert(at - 3, ",");
  return text;
}

SpaceNeed space_need(const release::EntryTable& table, const Reuse& reuse,
                     std::uint64_t block_bytes) {
  SpaceNeed total;
  for (std::size_t i = 0; i < table.size(); ++i) {
    const SpaceNeed one = need_of(table.at(i), reuse, block_bytes);
    total.bytes = add(total.bytes, one.bytes);
    total.inodes += one.inodes;
  }
  return total;
}

base::Status check_free_space(int directory_fd, const std::string& directory,
                              const release::EntryTable& table, const Reuse& reuse,
                              std::uint64_t min_free_bytes) {
  struct statvfs about{};
  if (::fstatvfs(directory_fd, &about) != 0)
    return base::system_error(errno, cannot("measure the free space of", directory));
  const std::uint64_t block = about.f_frsize != 0 ? about.f_frsize : 4096;
  const std::uint64_t free_bytes = about.f_bavail * block;
  const bool has_inodes = about.f_files != 0;  // btrfs makes inodes as it needs them and says 0
  const SpaceNeed need = space_need(table, reuse, block);
  const bool fits = add(need.bytes, min_free_bytes) <= free_bytes &&
                    (!has_inodes || need.inodes <= about.f_favail);
  if (fits) return base::ok();
  std::string wanted = figures(need.bytes, need.inodes, has_inodes);
  if (min_free_bytes != 0) wanted += ", and " + base::human_bytes(min_free_bytes) + " to stay free";
  return base::Error(base::Code::no_space,
                     "not enough space for the release in '" + directory + "'")
      .expected(std::move(wanted))
      .got(figures(free_bytes, about.f_favail, has_inodes))
      .hint("make room on that file system, or keep fewer releases ([retention] keep)");
}

}  // namespace updagent::store
