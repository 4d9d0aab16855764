#include "agent/store/reuse.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "agent/base/failpoints.hpp"
#include "agent/base/files.hpp"
#include "agent/store/layout.hpp"
#include "agent/store/store.hpp"

namespace updagent::store {
namespace {

using base::Result;
using base::UniqueFd;
using release::EntryType;
using release::EntryView;

// Kept files with the wanted digest that are looked at for one new file; a release with a thousand
// copies of one file must not cost a thousand opens for each.
constexpr std::size_t kMaxCandidates = 4;
constexpr std::size_t kMaxScanned = 64;  // rows of the index, for the same reason

std::uint64_t key_of(const base::Digest& digest) {
  std::uint64_t key = 0;
  std::memcpy(&key, digest.bytes.data(), sizeof key);
  return key;
}

bool is_ours(const struct stat& about) {
  return about.st_uid == ::geteuid() && about.st_gid == ::getegid();
}

bool has_attributes(const struct stat& about, const EntryView& entry) {
  return is_ours(about) && (about.st_mode & 07777U) == installed_mode(entry.type, entry.mode) &&
         about.st_mtim.tv_sec == entry.mtime && about.st_mtim.tv_nsec == 0;
}

// What somebody gave to the kept file must not come along into a release that nobody signed it for.
bool has_extra_rights(int fd) {
  return ::fgetxattr(fd, "security.capability", nullptr, 0) >= 0 ||
         ::fgetxattr(fd, "system.posix_acl_access", nullptr, 0) >= 0;
}

int clone_into(int file_fd, int from_fd) {
  if (const int injected = base::failpoint::fail("sys.reflink"); injected != 0) return injected;
  return ::ioctl(file_fd, FICLONE, from_fd) == 0 ? 0 : errno;
}

}  // namespace

bool can_clone(int directory_fd, int sample_fd) {
  const UniqueFd nameless(::openat(directory_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  return nameless && clone_into(nameless.get(), sample_fd) == 0;
}

void Reuse::note_damage(std::string what) {
  if (damaged_.size() < kMaxProblems) damaged_.push_back(std::move(what));
}

std::string Reuse::Release::path_of(const Row& row) const {
  return text.substr(row.folder_at, row.folder_length) + text.substr(row.leaf_at, row.leaf_length);
}

void Reuse::index(const std::string& version, UniqueFd root, const release::Manifest& manifest) {
  if (releases_.size() == kMaxIndexedReleases) return;
  Release kept{version, std::move(root), {}, {}};
  add_rows(kept, manifest.entries);
  kept.rows.shrink_to_fit();
  kept.text.shrink_to_fit();
  // leaf_at grows in the order of the table, which is that of the paths
  std::sort(kept.rows.begin(), kept.rows.end(), [](const Row& a, const Row& b) {
    return a.key != b.key ? a.key < b.key : a.leaf_at < b.leaf_at;
  });
  releases_.push_back(std::move(kept));
}

void Reuse::add_rows(Release& kept, const release::EntryTable& table) {
  std::string folder;
  std::uint32_t folder_at = 0;
  for (std::size_t i = 0; i < table.size() && indexed_ < kMaxIndexedFiles; ++i) {
    const EntryView entry = table.at(i);
    // an empty file costs an inode either way
    if (entry.type != EntryType::file || entry.size == 0) continue;
    const std::size_t leaf = entry.path.rfind('/') + 1;  // 0 in the root
    if (entry.path.substr(0, leaf) != folder) {
      folder = entry.path.substr(0, leaf);
      folder_at = static_cast<std::uint32_t>(kept.text.size());
      kept.text += folder;
    }
    kept.rows.push_back(
        {key_of(entry.sha256), entry.mtime, folder_at, static_cast<std::uint32_t>(kept.text.size()),
         static_cast<std::uint16_t>(leaf), static_cast<std::uint16_t>(entry.path.size() - leaf),
         static_cast<std::uint16_t>(installed_mode(entry.type, entry.mode))});
    kept.text += entry.path.substr(leaf);
    ++indexed_;
  }
}

std::vector<const Reuse::Row*> Reuse::candidates(const Release& release, const EntryView& entry,
                                                 bool any_attributes) {
  const std::uint64_t key = key_of(entry.sha256);
  const mode_t mode = installed_mode(entry.type, entry.mode);
  std::vector<const Row*> found;
  const auto consider = [&](const Row& row) {
    if (any_attributes || (row.mode == mode && row.mtime == entry.mtime)) found.push_back(&row);
  };
  const auto end = release.rows.end();
  const auto first = std::lower_bound(release.rows.begin(), end, key,
                                      [](const Row& row, std::uint64_t k) { return row.key < k; });
  // the one at the same path is the likeliest to be the same in everything
  const auto same =
      std::lower_bound(first, end, entry.path, [&](const Row& row, std::string_view path) {
        return row.key == key && release.path_of(row) < path;
      });
  const bool has_same = same != end && same->key == key && release.path_of(*same) == entry.path;
  if (has_same) consider(*same);
  std::size_t scanned = 0;
  for (auto row = first; row != end && row->key == key; ++row) {
    if (found.size() == kMaxCandidates || ++scanned > kMaxScanned) break;
    if (!has_same || row != same) consider(*row);
  }
  return found;
}

bool Reuse::is_likely(const EntryView& entry) const {
  if (entry.type != EntryType::file || entry.size == 0) return false;
  return std::any_of(releases_.begin(), releases_.end(), [&](const Release& release) {
    return !candidates(release, entry, clone_).empty();
  });
}

UniqueFd Reuse::open_kept(const Release& release, const Row& row, const EntryView& entry) {
  const std::string path = release.path_of(row);
  auto opened = base::open_beneath(release.root.get(), path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  struct stat about{};
  if (!opened || ::fstat(opened->get(), &about) != 0) {
    note_damage(release.version + ": '" + path + "' can't be opened");
    return {};
  }
  if (!S_ISREG(about.st_mode) || static_cast<std::uint64_t>(about.st_size) != entry.size) {
    note_damage(release.version + ": '" + path + "': expected a file of " +
                std::to_string(entry.size) + " bytes, got something else");
    return {};
  }
  if (!clone_ && (!has_attributes(about, entry) || has_extra_rights(opened->get()))) return {};
  return std::move(*opened);
}

bool Reuse::is_same(int fd, const EntryView& entry, const std::string& kept_name) {
  const auto digest = hasher_.hash(fd, kept_name);
  if (digest && *digest == entry.sha256) return true;
  note_damage(kept_name + ": expected sha256 " + entry.sha256.hex() + ", got " +
              (digest ? digest->hex() : digest.error().message()));
  return false;
}

// The clone is what gets hashed: it has an inode of its own, so what was hashed is what stays.
Result<Taken> Reuse::take_clone(const EntryView& entry, int kept_fd, const std::string& kept_name,
                                StagedTree& tree) {
  UPD_ASSIGN(UniqueFd file, tree.create_file(entry.path));
  if (clone_into(file.get(), kept_fd) == 0 && is_same(file.get(), entry, kept_name))
    return Taken{Taken::How::by_clone, std::move(file)};
  UPD_TRY(tree.remove_file(entry.path));
  return Taken{};
}

// The link is made from the very descriptor that was hashed.
Result<Taken> Reuse::take_link(const EntryView& entry, int kept_fd, const std::string& kept_name,
                               StagedTree& tree) {
  if (!is_same(kept_fd, entry, kept_name)) return Taken{};
  UPD_ASSIGN(const bool linked, tree.link(kept_fd, entry.path));
  return linked ? Taken{Taken::How::by_link, {}} : Taken{};
}

// A file that was cut off is no damage: it just isn't taken.
Result<Taken> Reuse::take_leftover(const EntryView& entry, StagedTree& tree) {
  auto left = base::open_beneath(leftover_.get(), std::string(entry.path),
                                 O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  struct stat about{};
  if (!left || ::fstat(left->get(), &about) != 0 || !S_ISREG(about.st_mode) ||
      static_cast<std::uint64_t>(about.st_size) != entry.size || !is_ours(about))
    return Taken{};
  // With more than one name it may be a kept release's own: then nothing of it may change.
  if (about.st_nlink > 1 && !has_attributes(about, entry)) return Taken{};
  // Nobody saw whether its write-back failed: what is in the cache need not be on the disk.
  ::posix_fadvise(left->get(), 0, 0, POSIX_FADV_DONTNEED);
  const auto digest = hasher_.hash(left->get(), entry.path);
  if (!digest || *digest != entry.sha256) return Taken{};
  UPD_ASSIGN(const bool linked, tree.link(left->get(), entry.path));
  return linked ? Taken{Taken::How::from_leftover, std::move(*left)} : Taken{};
}

Result<Taken> Reuse::take(const EntryView& entry, StagedTree& tree) {
  if (entry.type != EntryType::file || entry.size == 0) return Taken{};
  if (leftover_) {
    UPD_ASSIGN(Taken taken, take_leftover(entry, tree));
    if (taken.how != Taken::How::nothing) return taken;
  }
  for (const Release& release : releases_) {
    for (const Row* row : candidates(release, entry, clone_)) {
      const UniqueFd kept = open_kept(release, *row, entry);
      if (!kept) continue;
      const std::string name = release.version + "/" + release.path_of(*row);
      UPD_ASSIGN(Taken taken, clone_ ? take_clone(entry, kept.get(), name, tree)
                                     : take_link(entry, kept.get(), name, tree));
      if (taken.how != Taken::How::nothing) return taken;
    }
  }
  return Taken{};
}

}  // namespace updagent::store
