// The bytes of many installed files against the manifest, on all the processors that help: hashing
// is what a look at a whole tree costs.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/error.hpp"
#include "agent/base/interrupt.hpp"
#include "agent/release/manifest.hpp"
#include "agent/store/file_hasher.hpp"

namespace updagent::store {

struct ContentProblem {
  std::size_t index = 0;  // of the entry in the table
  std::string what;
};

class ContentCheck {
 public:
  // `root_fd`: of the tree. `table` and `interrupt` (may be null) outlive the object.
  ContentCheck(int root_fd, const release::EntryTable& table, base::Interrupt* interrupt);
  // A file or hard link of the table; `bytes` as the directory says, for a guess at the work.
  void add(std::size_t index, std::uint64_t bytes);
  // Size, digest and absence of file capabilities of all that were added. Stops at `max_problems`.
  // The problems come in the order of the table.
  base::Result<std::vector<ContentProblem>> run(std::size_t max_problems);
  std::uint64_t bytes_checked() const { return bytes_checked_; }

 private:
  void work(std::size_t max_problems);
  base::Result<std::optional<std::string>> look_at(const release::EntryView& entry,
                                                   FileHasher& hasher);
  base::Result<std::optional<std::string>> compare(const release::EntryView& content,
                                                   std::string_view path, int fd,
                                                   FileHasher& hasher);
  std::size_t workers_worth_starting() const;

  int root_fd_;
  const release::EntryTable& table_;
  base::Interrupt* interrupt_;
  std::vector<std::size_t> files_;
  std::uint64_t total_bytes_ = 0;
  std::atomic<std::size_t> next_ = 0;
  std::atomic<std::uint64_t> bytes_checked_ = 0;
  std::atomic<bool> stop_ = false;
  std::mutex mutex_;  // of what follows
  std::vector<ContentProblem> problems_;
  std::optional<base::Error> error_;
};

}  // namespace updagent::store
