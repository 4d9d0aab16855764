// Finds files of kept releases, and of a run that was killed, that a new release has too, and takes
// them instead of writing them again. Whatever it takes was hashed as it was taken: kept trees are
// trusted for nothing. docs/adr/0002-hard-links.md says why a link between releases is safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/error.hpp"
#include "agent/base/unique_fd.hpp"
#include "agent/release/manifest.hpp"
#include "agent/store/file_hasher.hpp"
#include "agent/store/staged_tree.hpp"

namespace updagent::store {

// Of the releases offered, the first two: current and the one before hold nearly all that can be
// shared. 32 bytes and the last component of the path for each file: about 14 MB for the
// largest release.
inline constexpr std::size_t kMaxIndexedReleases = 2;
inline constexpr std::size_t kMaxIndexedFiles = release::kMaxEntries;  // of all of them together

struct Taken {
  enum class How { nothing, from_leftover, by_clone, by_link };
  How how = How::nothing;
  base::UniqueFd
      file;  // mode and mtime have to be set, and it must be flushed; invalid for by_link
};

class Reuse {
 public:
  // `root` is the tree of `version`, `manifest` its own. Past kMaxIndexedReleases: ignored.
  void index(const std::string& version, base::UniqueFd root, const release::Manifest& manifest);
  // The half-done tree of a killed run of this same manifest: its files stand at the same paths.
  void set_leftover(base::UniqueFd root) { leftover_ = std::move(root); }
  void set_clone(bool possible) { clone_ = possible; }

  // Puts the bytes of `entry` at its path in `tree` if they are found; an error only when the new
  // tree can't be written.
  base::Result<Taken> take(const release::EntryView& entry, StagedTree& tree);
  // Guess for the space check, without a look at the files.
  bool is_likely(const release::EntryView& entry) const;
  bool is_cloning() const { return clone_; }

  void note_damage(std::string what);
  // Kept files that are not what their release's manifest says; at most kMaxProblems.
  const std::vector<std::string>& damaged() const { return damaged_; }

 private:
  struct Row {
    std::uint64_t key;  // the first 8 bytes of the digest
    std::int64_t mtime;
    std::uint32_t folder_at;  // with its '/'; files of one folder share it
    std::uint32_t leaf_at;
    std::uint16_t folder_length;
    std::uint16_t leaf_length;
    std::uint16_t mode;
  };
  struct Release {
    std::string version;
    base::UniqueFd root;
    std::vector<Row> rows;  // by key, then path
    std::string text;
    std::string path_of(const Row& row) const;
  };

  void add_rows(Release& kept, const release::EntryTable& table);
  static std::vector<const Row*> candidates(const Release& release, const release::EntryView& entry,
                                            bool any_attributes);
  base::UniqueFd open_kept(const Release& release, const Row& row, const release::EntryView& entry);
  base::Result<Taken> take_leftover(const release::EntryView& entry, StagedTree& tree);
  base::Result<Taken> take_clone(const release::EntryView& entry, int kept_fd,
                                 const std::string& kept_name, StagedTree& tree);
  base::Result<Taken> take_link(const release::EntryView& entry, int kept_fd,
                                const std::string& kept_name, StagedTree& tree);
  bool is_same(int fd, const release::EntryView& entry, const std::string& kept_name);

  std::vector<Release> releases_;
  std::size_t indexed_ = 0;
  base::UniqueFd leftover_;
  bool clone_ = false;
  FileHasher hasher_;
  std::vector<std::string> damaged_;
};

// Whether files of this file system share their blocks by FICLONE: tried with a nameless file in
// `directory_fd` on the content of `sample_fd`.
bool can_clone(int directory_fd, int sample_fd);

}  // namespace updagent::store
