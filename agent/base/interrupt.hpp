// ^C and SIGTERM as a descriptor that every bounded wait of a driver also polls. SIGHUP and SIGPIPE
// are ignored for the life of the object: a closed terminal changes nothing.
#pragma once

#include <signal.h>

#include "agent/base/error.hpp"
#include "agent/base/unique_fd.hpp"

namespace updagent::base {

class Interrupt {
 public:
  // Blocks SIGINT and SIGTERM in the calling thread (start before any thread is made).
  static Result<Interrupt> install();
  Interrupt(Interrupt&&) noexcept = default;
  Interrupt& operator=(Interrupt&&) noexcept = default;
  ~Interrupt() = default;

  // Readable once a signal came and until acknowledge(). For poll(2); never read it directly.
  int fd() const { return signals_.get(); }
  // True once a signal has come; remembered until acknowledge().
  bool requested();
  // The rollback itself must not be cut short by the ^C that asked for it.
  void acknowledge();

 private:
  explicit Interrupt(UniqueFd signals) : signals_(std::move(signals)) {}
  UniqueFd signals_;
};

}  // namespace updagent::base
