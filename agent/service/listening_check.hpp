// Does a generation serve? Asked by a connection to each of its stream listeners that the steering
// brings to it: our sockets listen even if nobody accepts, so only an accepted connection counts.
// Where another generation has the same socket, it counts when this one's processes hold it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agent/listen/steering.hpp"
#include "agent/service/listener_set.hpp"

namespace updagent::service {

inline constexpr base::Milliseconds kAcceptLook{20};
// One attempt: then the connection is given up and made anew (a server that resets its queue).
inline constexpr base::Milliseconds kAttempt{2'000};

class ListeningCheck {
 public:
  // `accepted` is called once, from the loop, when every stream listener has accepted. It goes on
  // trying until it is destroyed, which is before `listeners` and `generation` are. `policy` may be
  // null (shared).
  ListeningCheck(Loop& loop, listen::Policy* policy, const ListenerSet& listeners,
                 const Generation& generation, std::function<void()> accepted);
  ~ListeningCheck();

  // What keeps it from its end: "nobody accepts at tcp:0.0.0.0:80", or why it can't connect there.
  std::string missing() const;

 private:
  struct Try {
    listen::Address server;
    base::UniqueFd client;
    listen::Address from;
    int probe_entry = -1;
    base::Deadline end = base::Deadline::in(kAttempt);
    int listening_fd = -1;  // of unix
    bool shared = false;    // others may accept it
    bool accepted = false;
    std::string problem;  // of the last attempt to connect
  };
  void look();
  base::Status connect(Try& one);
  bool is_accepted(Try& one);
  bool is_own(const Try& one) const;
  void let_go(Try& one);

  Loop& loop_;
  listen::Policy* policy_;
  const Generation& generation_;
  std::function<void()> accepted_;
  std::vector<Try> tries_;
  Watch timer_;
};

}  // namespace updagent::service
