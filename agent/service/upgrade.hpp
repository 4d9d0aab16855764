// A supervisor becomes a newer program without ending: execve(2) with its state in a memfd and
// every descriptor kept, connections of drivers included. Before that the new program has read the
// state in a child (--check-state): one that can't is refused, and nothing has changed.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "agent/base/error.hpp"
#include "agent/base/strict_json.hpp"
#include "agent/base/unique_fd.hpp"

namespace updagent::service {

// Of the state file and of what goes over execve(2). Another one is not understood.
inline constexpr int kStateVersion = 1;

// What a supervisor hands to itself. All empty: it is a fresh process.
struct Kept {
  base::Json state;  // as in the state file; null: none
  base::UniqueFd lock;
  std::map<std::string, base::UniqueFd> control;  // for ControlServer::take_up()
  std::map<std::string, base::UniqueFd> held;     // under the names that the holder has them by
  std::uint64_t driver = 0;                       // the connection that drives; 0: nobody
};

// The same before the execve(2), by number.
struct Keepsake {
  base::Json state;
  int lock = -1;
  std::map<std::string, int> control;
  std::map<std::string, int> held;
  std::uint64_t driver = 0;

  base::Result<base::UniqueFd> write() const;  // the memfd, itself inheritable
  void set_inherited(bool inherited) const;
};

// Of the memfd that `fd` is; takes it and closes it. The descriptors are O_CLOEXEC again.
base::Result<Kept> take_kept(int fd);

// Whether this program understands the state of another one. Code::requires_agent.
base::Status check_understood(const base::Json& state);
// The same of what was kept at `path`, and opens nothing else: what --check-state runs.
base::Status check_state(const std::string& path);

}  // namespace updagent::service
