// Starts one generation's process exactly as meant. Start here for agent/launch/: it promises that
// a service gets the descriptors, environment, identity, limits and filter that its spec lists and
// nothing else of ours, that a start which fails names the step it failed at and never looks like a
// crash of the service, and that what was started does not end when we do. It never decides what
// runs or who gets the traffic.
//
//   environment.hpp     what goes into argv and environment, for each protocol
//   service_start.hpp   the start
//   guard.hpp           the seccomp filter it runs under
//   output.hpp          where stdout and stderr go; output_bound.hpp keeps that file small
//   process_watch.hpp   its end; cgroup.hpp and process_family.hpp: all of its processes
//   memory_check.hpp    whether there is room for one more
//   notify, fd_store    what it tells us (sd_notify); inject: sockets for servers that bind
#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/clock.hpp"
#include "agent/base/error.hpp"
#include "agent/base/identity.hpp"
#include "agent/base/unique_fd.hpp"
#include "agent/launch/capabilities.hpp"
#include "agent/launch/guard.hpp"
#include "agent/launch/limits.hpp"
#include "agent/launch/process_watch.hpp"

namespace updagent::launch {

// Listeners of an app and what it keeps in its FDSTORE: systemd passes at most 253 in a message.
inline constexpr std::size_t kMaxPassedDescriptors = 253;
// From clone3(2) to execve(2) is a millisecond; a network file system that hangs takes for ever.
inline constexpr base::Milliseconds kStartPatience{10'000};

struct PassedDescriptor {
  std::string name;  // for errors here; what the service reads is in its environment
  int fd = -1;       // stays the caller's
};

// no_new_privs is set always, stdin is /dev/null, every signal is at its default and unblocked, and
// it leads a session of its own.
struct ServiceSpec {
  std::vector<std::string> argv;  // [0] absolute, or relative to working_directory if it has a '/';
                                  // else searched in base::kSafePath
  std::vector<std::string> environment;    // the exact list, "NAME=value"; nothing is inherited
  std::vector<std::string> pid_variables;  // names: each gets the service's own pid as its value
  std::string working_directory;           // absolute
  base::Identity identity;
  // What it may do beyond its user. For root: what is left of root's power, nothing: all of ours.
  // For others: kept (permitted, effective, inheritable, ambient), nothing: none. What isn't listed
  // leaves the bounding set too.
  std::optional<CapabilitySet> capabilities;
  std::vector<ResourceLimit> limits;  // the others stay as ours
  mode_t umask = 022;
  std::optional<int> oom_score_adj;
  int cgroup_fd = -1;  // folder of a version 2 cgroup, its own before it does anything; -1: ours
  int stdout_fd = -1;
  int stderr_fd = -1;
  std::vector<PassedDescriptor> descriptors;  // become 3, 4, ... in this order
  const Guard* guard = nullptr;               // null: no filter; only used by begin()
};

struct StartedService {
  ProcessIdentity identity;
  base::UniqueFd pidfd;
  base::UniqueFd bind_listener;  // of Guard::intercepts_bind(): nobody else holds it
};

// A start that waits for nobody: for the event loop.
class ServiceStart {
 public:
  static base::Result<ServiceStart> begin(const ServiceSpec& spec);
  ServiceStart(ServiceStart&&) noexcept;
  ServiceStart& operator=(ServiceStart&&) noexcept;
  ~ServiceStart();  // a start that has not come to its end is killed

  int event_fd() const;
  // Nothing: still on its way. The error says at which step it failed and with what. To be called
  // until it says something else than nothing.
  base::Result<std::optional<StartedService>> on_event();
  // Kills it. Code::timed_out, saying what it hangs in.
  base::Error give_up();

 private:
  struct State;
  explicit ServiceStart(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// begin() and on_event(), at most `patience`.
base::Result<StartedService> start_service(const ServiceSpec& spec,
                                           base::Milliseconds patience = kStartPatience);

}  // namespace updagent::launch
