// Keeps the output files of generations small while the services go on appending to them.
//
// The file is cut at its beginning, in place: the service's descriptor can't be replaced, and with
// O_APPEND each write goes to wherever the end is. FALLOC_FL_COLLAPSE_RANGE (ext4, xfs) makes it
// shorter, FALLOC_FL_PUNCH_HOLE (btrfs, tmpfs, ...) at least gives the space back, and both under
// the inode's lock: of what is kept no byte is lost, moved or doubled, which copying and truncating
// can't promise. Only where the file system has neither, the file is truncated to nothing.
// A cut waits for the disk, so it is done in a process of its own: a service that floods its log
// can't make the event loop wait.
//
// No wake-ups for nothing: a file that nobody writes to has an inotify watch that fires once. From
// the first write on it is looked at by timer, the less often the slower it grows, until it is
// quiet again.
//
// The bound: kMaxOutputBytes, and what is written between two looks (kLongestLook at most) and
// while a cut is done. While no supervisor lives nothing is cut; the next one does it when it adds
// the file.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "agent/base/clock.hpp"
#include "agent/base/error.hpp"

namespace updagent::launch {

inline constexpr std::uint64_t kMaxOutputBytes = 8 * 1024 * 1024;  // some hours of a chatty service
inline constexpr std::uint64_t kKeptOutputBytes = kMaxOutputBytes / 2;  // left by a cut
inline constexpr base::Milliseconds kShortestLook{10};
inline constexpr base::Milliseconds kLongestLook{250};

// All output files of one supervisor: one inotify descriptor, for there are few of them per user.
class OutputBound {
 public:
  static base::Result<OutputBound> create();
  OutputBound(OutputBound&&) noexcept;
  OutputBound& operator=(OutputBound&&) noexcept;
  ~OutputBound();

  // Looks at it at once. A file that is there already is watched on.
  base::Status add(const std::string& file);
  void remove(const std::string& file);  // no longer watched; the file stays

  int event_fd() const;  // readable when there is something to do
  void on_event();       // bounded, waits for nothing

  std::uint64_t cuts() const;      // done so far
  std::uint64_t wake_ups() const;  // calls of on_event()

 private:
  struct State;
  explicit OutputBound(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace updagent::launch
