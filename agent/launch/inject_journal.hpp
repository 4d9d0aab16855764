// The bind requests that have been taken from the kernel and not been answered, in memory that
// outlives the supervisor. A request that was received and is not answered would block its thread
// for ever: no other reader gets it, and (with SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) only SIGKILL
// ends it. It can be answered by its id alone, so the id must survive us. The kernel itself writes
// it here: the answer buffer of SECCOMP_IOCTL_NOTIF_RECV is in this mapping, so there is no moment
// at which a request has been received and isn't recorded.
//
// Whoever holds the seccomp notify descriptor over a death of the supervisor holds this one too.
#pragma once

#include <linux/seccomp.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "agent/base/error.hpp"
#include "agent/base/unique_fd.hpp"

namespace updagent::launch {

// Binds that are worked on at once; further ones wait in the kernel. More threads than this rarely
// bind together.
inline constexpr std::size_t kMaxBindsInFlight = 8;
inline constexpr std::size_t kMaxInjectListeners = 64;  // bits of `bound`

class InjectJournal {
 public:
  struct Entry {
    std::uint64_t busy;  // 1 from before the request is received until it has been answered
    seccomp_notif request;
    std::array<std::uint8_t, 40> room;  // should the kernel's structure grow
  };
  static_assert(sizeof(Entry) == 128);

  // A memfd of the right size that can't be made smaller under the mapping.
  static base::Result<base::UniqueFd> make();
  // Maps it; the descriptor is not needed any more then. An empty one is set up, one with another
  // layout is refused with Code::damaged.
  static base::Result<InjectJournal> open(int journal_fd);

  Entry& entry(std::size_t index) { return data_->entries[index]; }
  // Listeners (by index) that a server has bound at least once: survives as well.
  std::uint64_t bound() const { return std::atomic_ref(data_->bound).load(); }
  // By asides too, before the answer: a server that has its socket has it in the journal.
  void set_bound(std::size_t listener) {
    std::atomic_ref(data_->bound).fetch_or(std::uint64_t{1} << listener);
  }

 private:
  struct Data {
    std::uint64_t magic;
    std::uint64_t bound;
    std::array<Entry, kMaxBindsInFlight> entries;
  };
  struct Unmap {
    void operator()(Data* data) const;
  };
  explicit InjectJournal(Data* data) : data_(data) {}

  std::unique_ptr<Data, Unmap> data_;
};

}  // namespace updagent::launch
