// Runs a command with a time limit and bounded output, and ends its whole process tree with it.
//
// Each command gets a keeper: a forked process that is a session leader and child subreaper, so
// that daemons which double-fork stay its descendants. When the time limit passes, the keeper kills
// every descendant; when the agent itself dies (SIGKILL included) the keeper sees its lifeline
// close and does the same: a hook never outlives its deployment. A command that ends by itself may
// leave daemons behind: those are let go.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/clock.hpp"
#include "agent/base/error.hpp"
#include "agent/base/identity.hpp"
#include "agent/base/interrupt.hpp"
#include "agent/base/unique_fd.hpp"

namespace updagent::base {

inline constexpr std::size_t kDefaultOutputLimit =
    64 * 1024;  // what an audit row can reasonably hold

struct ChildSpec {
  std::vector<std::string> argv;  // [0] absolute, or relative to working_directory if it has a '/';
                                  // else searched in kSafePath
  std::vector<std::string> environment;  // the exact list, "NAME=value"; nothing is inherited
  std::string working_directory;         // "" keeps the caller's
  std::optional<Identity> identity;      // nothing: the caller's own
  bool no_new_privs = true;
  Milliseconds time_limit{60'000};
  std::size_t output_limit =
      kDefaultOutputLimit;     // stdout and stderr together; first half and last half are kept
  std::string standard_input;  // written to its stdin (at most 1 MiB), then end of file
};
inline constexpr const char* kSafePath =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

struct ChildResult {
  int exit_status = -1;   // of exit(2); -1 if it was ended by a signal
  int signal_number = 0;  // that ended it, 0 otherwise
  bool timed_out = false;
  bool interrupted = false;     // the Interrupt came first; the tree was killed
  bool processes_left = false;  // some of the tree would not die (uninterruptible sleep)
  std::string output;           // valid UTF-8
  bool output_truncated = false;
  std::int64_t duration_us = 0;

  bool success() const { return exit_status == 0 && !timed_out && !interrupted; }
  // "exit status 3", "killed by signal 9 (KILL)", "still running after 60s: killed with its
  // children"
  std::string describe(Milliseconds time_limit) const;
};

// Blocks until the command ended or was ended. A command that can't be started (not found, not
// executable, no such working directory) is an Error naming it. `interrupt` may be null.
Result<ChildResult> run_child(const ChildSpec& spec, Interrupt* interrupt);

// The parts, for whoever waits on several things at once in one poll loop (probes).
class ChildProcess {
 public:
  static Result<ChildProcess> start(const ChildSpec& spec);
  ChildProcess(ChildProcess&&) noexcept;
  ChildProcess& operator=(ChildProcess&&) noexcept;
  ~ChildProcess();  // kills the tree if it is still running, and waits for that

  int event_fd() const;       // readable when there is output to take or the command ended
  Result<bool> on_event();    // takes what is there; true once the command has ended
  void kill_tree();           // bounded; afterwards on_event() returns true soon
  ChildResult take_result();  // after on_event() returned true

 private:
  struct State;
  explicit ChildProcess(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace updagent::base
