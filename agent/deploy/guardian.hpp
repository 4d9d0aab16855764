// A process that outlives its driver: forked when a deployment opens, in a session of its own, it
// waits for the driver to say "closed". If the driver ends without saying so, it becomes
// `updagent recover APP`: nothing depends on someone typing the next command.
#pragma once

#include <string>
#include <vector>

#include "agent/base/error.hpp"
#include "agent/base/unique_fd.hpp"

namespace updagent::deploy {

class Guardian {
 public:
  // `command`: what it executes when the driver died; [0] is tried as /proc/self/exe first, so that
  // a replaced binary doesn't matter. Empty: no guardian (unit tests).
  static base::Result<Guardian> start(const std::vector<std::string>& command);
  Guardian() = default;
  Guardian(Guardian&&) noexcept = default;
  Guardian& operator=(Guardian&&) noexcept = default;
  ~Guardian() = default;  // without dismiss(): the guardian acts as soon as this process ends

  // The deployment is closed: the guardian goes away without doing anything. Waits for that, which
  // is immediate.
  void dismiss();
  int pid() const { return pid_; }

 private:
  Guardian(base::UniqueFd lifeline, int pid) : lifeline_(std::move(lifeline)), pid_(pid) {}
  base::UniqueFd lifeline_;
  int pid_ = -1;
};

}  // namespace updagent::deploy
