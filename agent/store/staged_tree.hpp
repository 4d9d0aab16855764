// Makes entries beneath one directory and nowhere else: every parent is resolved from the root's
// descriptor with RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS, every last component is created, never
// followed. This holds for any sequence of calls, whatever release::EntryTable let through.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "agent/base/error.hpp"
#include "agent/base/unique_fd.hpp"
#include "agent/release/manifest.hpp"

namespace updagent::store {

// A new, empty, private file `name` in a directory; read and write.
base::Result<base::UniqueFd> create_file_at(int directory_fd, const std::string& name);
base::Status make_new_directory_at(int directory_fd, const std::string& name, mode_t mode);
// mtime first, mode last: a mode without the owner's bits would be in our own way without root.
base::Status set_attributes(int fd, mode_t mode, std::int64_t mtime, std::string_view name);

class StagedTree {
 public:
  StagedTree() = default;
  explicit StagedTree(base::UniqueFd root) : root_(std::move(root)) {}
  int root_fd() const { return root_.get(); }

  base::Status make_directory(std::string_view path);
  base::Result<base::UniqueFd> create_file(std::string_view path);
  base::Status make_symlink(std::string_view path, std::string_view target, std::int64_t mtime);
  // Another name for the very file that is open at `fd`. False when the file system can't link it
  // (another device, too many links, not supported, not permitted): copy it then.
  base::Result<bool> link(int fd, std::string_view path);
  base::Status remove_file(std::string_view path);
  base::Result<base::UniqueFd> open(std::string_view path, int flags) const;

 private:
  struct Place {
    int parent_fd = -1;
    std::string name;
  };
  base::Result<Place> place(std::string_view path);

  base::UniqueFd root_;
  // Entries come in ascending order, so siblings share a parent: one open directory saves the walk.
  base::UniqueFd parent_;
  std::string parent_path_;
};

}  // namespace updagent::store
