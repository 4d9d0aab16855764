// The descriptors that one generation has asked us to keep (FDSTORE=1 of sd_notify(3)): its state
// in a memfd, its live connections. The next generation is started with a copy of the list, in its
// order, after the listeners. Nothing is ever read from them, and nothing is done to them that a
// service could make hang: no fstat(2), and poll(2) only of sockets and pipes.
//
// One store for each generation: what a candidate stores goes with it when it is rolled back, and
// a candidate that fills its store doesn't keep the active one from storing.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/error.hpp"
#include "agent/base/unique_fd.hpp"
#include "agent/launch/descriptor_closer.hpp"

namespace updagent::launch {

// Enough for thousands of workers behind a few memfds; with 4 generations far below the
// supervisor's own limit of descriptors.
inline constexpr std::size_t kMaxStored = 128;
inline constexpr std::string_view kDefaultStoreName = "stored";  // sd_notify(3)

struct StoredDescriptor {
  std::string name;
  base::UniqueFd descriptor;
  bool watched = true;   // FDPOLL: dropped when its other end hangs up or it has an error
  std::uint64_t id = 0;  // within this store, for one entry only
};

enum class Stored {
  stored,
  already,       // the same open file is there, under this or another name
  refused_full,  // kMaxStored, or so many still being closed
  refused_name,  // not a valid name, or that of a listener
};

class FdStore {
 public:
  // Entries named as a listener would be taken for it by the next generation.
  static base::Result<std::unique_ptr<FdStore>> create(std::vector<std::string> listener_names);
  FdStore(const FdStore&) = delete;
  FdStore& operator=(const FdStore&) = delete;
  ~FdStore();

  // Readable when an entry is to be dropped.
  int event_fd() const { return epoll_.get(); }
  // Drops entries that were hung up; their names.
  std::vector<std::string> on_event();

  // `name` may be empty: kDefaultStoreName. `watched` has no effect on other than sockets and
  // pipes: of those only the kernel itself answers poll(2). What isn't stored stays with the
  // caller, who closes it as it came (NotifyEvent: leaves it there).
  Stored add(std::string name, base::UniqueFd& descriptor, bool watched);
  // FDSTOREREMOVE: all of that name. How many those were.
  std::size_t remove(std::string_view name);

  // Oldest first.
  const std::vector<StoredDescriptor>& entries() const { return entries_; }
  // For the next generation: duplicates of every entry, order and names as here. Where the new
  // release names a listener as an entry is named, that entry stays behind.
  base::Result<std::unique_ptr<FdStore>> copy_for(std::vector<std::string> listener_names) const;
  // For a successor: everything, and the store is empty. What add() gets in the same order makes
  // the same store.
  std::vector<StoredDescriptor> release_all();
  // True while nothing is being closed: execve(2) would close it here and now.
  bool idle() const { return closer_.waiting() == 0; }

 private:
  FdStore(base::UniqueFd epoll, std::vector<std::string> listener_names);
  bool is_listener_name(std::string_view name) const;
  bool holds(int fd) const;
  void watch(int fd);
  void unwatch(int fd);
  template <class Condition>
  std::size_t drop_if(Condition condition);

  base::UniqueFd epoll_;
  std::vector<std::string> listener_names_;
  DescriptorCloser closer_;
  std::vector<StoredDescriptor> entries_;
  std::uint64_t next_id_ = 0;
};

}  // namespace updagent::launch
