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

#include "agent/base/failpoints.hpp"
#include "agent/base/files.hpp"
#include "agent/release/artifact_reader.hpp"
#include "agent/store/layout.hpp"
#include "agent/store/store.hpp"

namespace updagent::store {
namespace {

using base::Result;
using base::UniqueFd;
using release::EntryType;
using release::EntryView;

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

void Reuse::add_source(const std::string& version, UniqueFd root) {
  if (releases_.size() < kMaxIndexedReleases)
    releases_.push_back({version, std::move(root), std::nullopt});
}

// A kept release that can't be read is a source less, and a line in the report.
void Reuse::match(const release::EntryTable& table) {
  if (releases_.empty()) return;
  wanted_.emplace(table);
  std::erase_if(releases_, [this](Release& kept) { return !match_one(kept); });
}

bool Reuse::match_one(Release& kept) {
  const auto alike = [any = clone_](const EntryView& one, const EntryView& other) {
    return any || (one.mtime == other.mtime &&
                   installed_mode(one.type, one.mode) == installed_mode(other.type, other.mode));
  };
  const auto file = base::open_beneath(kept.root.get(), release::kManifestPath,
                                       O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (!file) {
    note_damage(kept.version + ": " + file.error().line());
    return false;
  }
  release::FdSource source(file->get(), kept.version + "/" + release::kManifestPath);
  auto found = release::KeptFiles::find(*wanted_, source, alike);
  if (!found) {
    note_damage(kept.version + ": " + found.error().line());
    return false;
  }
  kept.files.emplace(std::move(*found));
  return true;
}

bool Reuse::is_likely(const EntryView& entry) const {
  if (entry.type != EntryType::file || entry.size == 0) return false;
  return std::any_of(releases_.begin(), releases_.end(), [&](const Release& release) {
    return release.files && !release.files->candidates(entry).empty();
  });
}

UniqueFd Reuse::open_kept(const Release& release, const std::string& path, const EntryView& entry) {
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
    if (!release.files) continue;
    for (const std::string_view found : release.files->candidates(entry)) {
      const std::string path(found);
      const UniqueFd kept = open_kept(release, path, entry);
      if (!kept) continue;
      const std::string name = release.version + "/" + path;
      UPD_ASSIGN(Taken taken, clone_ ? take_clone(entry, kept.get(), name, tree)
                                     : take_link(entry, kept.get(), name, tree));
      if (taken.how != Taken::How::nothing) return taken;
    }
  }
  return Taken{};
}

}  // namespace updagent::store
