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
  // is immediate; one that was stopped meanwhile is killed.
  void dismiss();

 private:
  Guardian(base::UniqueFd lifeline, base::UniqueFd process)
      : lifeline_(std::move(lifeline)), process_(std::move(process)) {}
  base::UniqueFd lifeline_;
  base::UniqueFd process_;  // pidfd
};

}  // namespace updagent::deploy
