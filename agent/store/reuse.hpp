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
#include "agent/release/kept_files.hpp"
#include "agent/release/manifest.hpp"
#include "agent/store/file_hasher.hpp"
#include "agent/store/staged_tree.hpp"

namespace updagent::store {

// Of the releases offered, the first two: current and the one before hold nearly all that can be
// shared.
inline constexpr std::size_t kMaxIndexedReleases = 2;

struct Taken {
  enum class How { nothing, from_leftover, by_clone, by_link };
  How how = How::nothing;
  base::UniqueFd
      file;  // mode and mtime have to be set, and it must be flushed; invalid for by_link
};

class Reuse {
 public:
  // `root` is the tree of `version`. Past kMaxIndexedReleases: ignored.
  void add_source(const std::string& version, base::UniqueFd root);
  // Looks which of their files `table` wants; it stays where it is as long as take() is called.
  // Before that nothing is found.
  void match(const release::EntryTable& table);
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
  struct Release {
    std::string version;
    base::UniqueFd root;
    std::optional<release::KeptFiles> files;
  };

  bool match_one(Release& kept);
  base::UniqueFd open_kept(const Release& release, const std::string& path,
                           const release::EntryView& entry);
  base::Result<Taken> take_leftover(const release::EntryView& entry, StagedTree& tree);
  base::Result<Taken> take_clone(const release::EntryView& entry, int kept_fd,
                                 const std::string& kept_name, StagedTree& tree);
  base::Result<Taken> take_link(const release::EntryView& entry, int kept_fd,
                                const std::string& kept_name, StagedTree& tree);
  bool is_same(int fd, const release::EntryView& entry, const std::string& kept_name);

  std::vector<Release> releases_;
  std::optional<release::WantedFiles> wanted_;
  base::UniqueFd leftover_;
  bool clone_ = false;
  FileHasher hasher_;
  std::vector<std::string> damaged_;
};

// Whether files of this file system share their blocks by FICLONE: tried with a nameless file in
// `directory_fd` on the content of `sample_fd`.
bool can_clone(int directory_fd, int sample_fd);

}  // namespace updagent::store
