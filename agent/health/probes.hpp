// Is it good? Start here for agent/health/: it runs probes in one poll loop and says whether they
// hold. It never acts on the answer.
#pragma once

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

struct ProbeContext {
  std::string working_directory;         // of exec probes
  std::vector<std::string> environment;  // of exec probes, exact
  std::optional<base::Identity> identity;
  std::string ca_file;  // https probes
  base::Interrupt* interrupt = nullptr;
  // Until all have passed; past it the release is not good. What a release asks for (delays,
  // intervals, counts) could take months.
  base::Milliseconds prove_limit{3'600'000};
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
