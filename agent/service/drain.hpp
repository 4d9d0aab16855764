// Waits until an old generation has nothing under way, so that its graceful stop cuts nobody off.
#pragma once

#include <cstdint>
#include <functional>
#include <map>

#include "agent/service/listener_set.hpp"

namespace updagent::service {

// Under way: something waits in its queues, or a connection that is not quiet: data in a queue, or
// the last word was the client's, or the server's less than kQuietFor ago.
inline constexpr base::Milliseconds kQuietFor{1'000};
// Asking the kernel costs a netlink dump; a drain takes seconds to minutes.
inline constexpr base::Milliseconds kDrainLook{200};

class Drain {
 public:
  // Of a generation that has begun to drain. `done` gets how many connections were still busy (0
  // unless the time was over), or why that can't be known: then it had its whole time. Called once,
  // from the loop. `listeners` and `generation` outlive the object.
  Drain(Loop& loop, const ListenerSet& listeners, const Generation& generation,
        std::function<void(const base::Result<std::size_t>& busy)> done);

 private:
  void look();
  base::Result<std::size_t> busy_connections();

  Loop& loop_;
  const ListenerSet& listeners_;
  const Generation& generation_;
  std::function<void(const base::Result<std::size_t>&)> done_;
  std::map<std::uint32_t, std::int64_t>
      quiet_since_us_;  // of unix connections, which have no times
  Watch timer_;
};

// Connections of a generation that are not quiet now; 0 where nobody can tell.
std::size_t busy_connections(const ListenerSet& listeners, const Generation& generation);

}  // namespace updagent::service
