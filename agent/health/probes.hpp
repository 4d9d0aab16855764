// Is it good? Start here for agent/health/: it runs probes in one poll loop and says whether they
// hold. It never acts on the answer.
#pragma once

#include <sys/socket.h>

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "agent/base/clock.hpp"
#include "agent/base/error.hpp"
#include "agent/base/identity.hpp"
#include "agent/base/interrupt.hpp"
#include "agent/release/manifest.hpp"

namespace updagent::health {

inline constexpr std::size_t kBodyLimit = 64 * 1024;  // of a response; enough for a health page
// A probe that flaps for ever neither fails nor passes: after this many results it has failed.
inline constexpr int kMaxResultsToProve = 100;

// Brings one connection of a probe to one generation of a service: called with the probe's socket
// before it connects. What it returns undoes that, and is called when the question is over.
using Steer = std::function<base::Result<std::function<void()>>(int fd, const sockaddr* to)>;

// Something else to be served while probes are asked.
struct Served {
  int fd = -1;  // readable when there is something to do
  std::function<void()> on_event;
};

struct ProbeContext {
  std::string working_directory;         // of exec probes
  std::vector<std::string> environment;  // of exec probes, exact
  std::optional<base::Identity> identity;
  std::string ca_file;  // https probes
  base::Interrupt* interrupt = nullptr;
  // Until all have passed; past it the release is not good. What a release asks for (delays,
  // intervals, counts) could take months.
  base::Milliseconds prove_limit{3'600'000};
  Steer steer;  // may be empty
  // Whether the server has accepted the connection of a tcp probe: a listening socket alone proves
  // nothing where it is not the server's own. Empty: connected is enough.
  std::function<bool(int fd)> accepted;
  // Whether connections to this address begin with the header of the PROXY protocol. May be empty.
  std::function<bool(const sockaddr* to)> wants_proxy_header;
  std::vector<Served> served;  // forwarders of commands, the connection to the supervisor
  // At least once a second while probes are asked; an error ends it: the release is not good.
  std::function<base::Status()> on_tick;
};

struct ProbeResult {
  std::string probe;
  bool healthy = false;
  std::string problem;  // "HTTP 503, expected 200-299", "connection refused", "exit status 1"
  std::string output;   // of an exec probe (bounded)
  std::int64_t duration_us = 0;
  int in_a_row = 0;  // equal results so far, this one included
};

struct Verdict {
  bool healthy = false;
  bool interrupted = false;
  std::string probe;   // the one that decided, when not healthy
  std::string reason;  // "probe 'healthz' failed 3 times in a row: HTTP 503, expected 200-299"
  std::string output;  // of that probe
  std::uint64_t results = 0;
};

using OnResult = std::function<void(const ProbeResult&)>;

// Until every probe has `successes` in a row, or one has `failures` in a row. Each starts after its
// initial delay and is asked again every interval; never two runs of the same probe at once.
base::Result<Verdict> prove(std::span<const release::Probe> probes, const ProbeContext& context,
                            const OnResult& on_result);
// For `span`: unhealthy as soon as one has `failures` in a row. on_tick at least once a second.
// A probe whose last answer was bad at the end, or that has not answered yet, is waited for until
// it has passed or failed: nothing is called good while it fails.
base::Result<Verdict> watch(std::span<const release::Probe> probes, base::Milliseconds span,
                            const ProbeContext& context, const OnResult& on_result,
                            const std::function<void(base::Milliseconds left)>& on_tick);

}  // namespace updagent::health
