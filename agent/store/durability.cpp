#include "agent/store/durability.hpp"

#include <fcntl.h>

#include "agent/base/files.hpp"

namespace updagent::store {
namespace {

using base::Status;
using base::UniqueFd;

// The envelope and the manifest come on top of the entries.
constexpr std::size_t kOwnFiles = 2;

}  // namespace

void Unflushed::add(UniqueFd file) {
  if (!file || too_many_) return;
  files_.push_back(std::move(file));
  if (files_.size() <= kFsyncEachLimit + kOwnFiles) return;
  too_many_ = true;
  files_.clear();
}

Status Unflushed::flush(const StagedTree& tree, const release::EntryTable& table,
                        const UniqueFd& filesystem) const {
  if (too_many_ || table.size() > kFsyncEachLimit)
    return base::syncfs_fd(filesystem.get(), "the new release");
  return flush_each(tree, table);
}

Status Unflushed::flush_each(const StagedTree& tree, const release::EntryTable& table) const {
  // all at once into the disk's queue, then wait for one after the other
  for (const UniqueFd& file : files_) ::sync_file_range(file.get(), 0, 0, SYNC_FILE_RANGE_WRITE);
  for (const UniqueFd& file : files_)
    UPD_TRY(base::fsync_fd(file.get(), "a file of the new release"));
  for (std::size_t i = 0; i < table.size(); ++i) {
    const release::EntryView entry = table.at(i);
    if (entry.type != release::EntryType::directory) continue;
    UPD_ASSIGN(const UniqueFd directory, tree.open(entry.path, O_RDONLY | O_DIRECTORY));
    UPD_TRY(base::fsync_fd(directory.get(), entry.path));
  }
  UPD_ASSIGN(const UniqueFd own,
             base::open_beneath(tree.root_fd(), release::kReservedFolder, O_RDONLY | O_DIRECTORY));
  UPD_TRY(base::fsync_fd(own.get(), release::kReservedFolder));
  return base::fsync_fd(tree.root_fd(), "the new release");
}

}  // namespace updagent::store
