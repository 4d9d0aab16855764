// When the bytes of a staged tree reach stable storage. docs/adr/0003-durability.md says why so.
#pragma once

#include <cstddef>
#include <vector>

#include "agent/base/error.hpp"
#include "agent/base/unique_fd.hpp"
#include "agent/release/manifest.hpp"
#include "agent/store/staged_tree.hpp"

namespace updagent::store {

// Up to so many entries each file and directory is fsynced for itself, and what other programs have
// written stays unflushed. Above, one syncfs is cheaper: an fsync costs a journal commit and a disk
// cache flush (5 to 30 ms on spinning disks), so 64 of them stay below two seconds.
inline constexpr std::size_t kFsyncEachLimit = 64;

class Unflushed {
 public:
  // Takes over a written file. It stays open until flush(): the kernel reports a failed write-back
  // through descriptors that were open before it. Past the limit syncfs reports instead, so they
  // are let go.
  void add(base::UniqueFd file);
  // `filesystem` was opened before the first write, see syncfs(2) "since Linux 5.8".
  base::Status flush(const StagedTree& tree, const release::EntryTable& table,
                     const base::UniqueFd& filesystem) const;

 private:
  base::Status flush_each(const StagedTree& tree, const release::EntryTable& table) const;

  std::vector<base::UniqueFd> files_;
  bool too_many_ = false;
};

}  // namespace updagent::store
