// How a release wants to be proved and to take its traffic: [rollout], [[gate]], [preflight] and
// [[worker]]. Plain data, for the manifest and whoever acts on it. docs/artifact.md has the format,
// docs/rollout.md what to choose.
#pragma once

#include <csignal>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/clock.hpp"

namespace updagent::release {

inline constexpr std::size_t kMaxRolloutSteps = 32;
inline constexpr std::size_t kMaxGates = 32;
inline constexpr std::size_t kMaxSmokeCommands = 16;
inline constexpr std::size_t kMaxWarmupPaths = 64;
inline constexpr int kMaxWarmupCount = 10'000;  // of each path
inline constexpr std::size_t kMaxWorkers = 16;
inline constexpr std::int64_t kMaxStepConnections = 1'000'000'000;
inline constexpr std::int64_t kMaxMinSamples = 1'000'000'000;
inline constexpr base::Milliseconds kShortestWindow{500};  // shorter ones would only see chance
// What a release gets that says nothing of it, where connections are handed over (`handoff`).
inline constexpr base::Milliseconds kDefaultHandoffWatch{10'000};

struct Command {
  std::vector<std::string> argv;  // relative to the release's root if [0] has a '/', or absolute
  base::Milliseconds timeout{60'000};
};

// --- [rollout]

enum class Affinity : std::uint8_t {
  connection,  // every new connection by chance
  client,      // by its address: a client stays with the candidate as the share grows
};
enum class Standby : std::uint8_t {
  warm,  // while it drains after the commit the old generation still is the fallback
  cold,  // from the commit on nothing new reaches it
};

struct Step {
  int percent = 100;                    // of new connections, 1 to 100
  base::Milliseconds duration{30'000};  // at least
  std::int64_t min_connections = 0;     // of the candidate, in this step; 0: none are waited for
  bool operator==(const Step&) const = default;
};

struct Rollout {
  std::vector<Step> steps;  // ascending, the last one is 100 %; empty: all at once
  base::Milliseconds step_patience{
      600'000};                 // past its duration a step waits so long for min_connections
  base::Milliseconds watch{0};  // after the last step, before the commit
  Affinity affinity = Affinity::connection;
  Standby standby = Standby::warm;
  bool operator==(const Rollout&) const = default;
};

// --- [[gate]]

enum class GateType : std::uint8_t { probe, scrape, prometheus, exec, kernel };
enum class OnNoData : std::uint8_t {
  pause,  // wait, at most no_data_timeout, then fail
  fail,   // at once
};
enum class Comparison : std::uint8_t { less, less_or_equal, greater, greater_or_equal };

// "error_ratio <= 0.05", "p99 <= 3.0 x active"
struct Condition {
  std::string metric;
  Comparison comparison = Comparison::less_or_equal;
  double limit = 0;
  bool relative = false;  // `limit` times what the active generation has
};

struct Gate {
  std::string name;
  GateType type = GateType::probe;
  std::string probe;      // probe: the name of a [[probe]]
  std::string url;        // scrape: the page of metrics; prometheus: the server
  std::string requests;   // scrape: selector of the counter of requests; "" = the default
  std::string errors;     // scrape: of those that failed; "" = the default
  std::string latency;    // scrape: name of a classic histogram, with matchers; "" = the default
  std::string numerator;  // scrape, for the metric `ratio`: selectors of two counters
  std::string denominator;
  std::string query;                  // prometheus: PromQL with $app $version $generation $window
  Command command;                    // exec; its timeout is `timeout`
  std::string condition;              // as it was written; probe and exec have none
  base::Milliseconds window{10'000};  // what one judgement looks at
  base::Milliseconds timeout{5'000};  // of one question
  std::int64_t min_samples = 0;       // 0: what the condition needs (health/gates.hpp)
  int failures = 0;                   // in a row; 0: 3 of probe and exec, 2 of the others
  int max_failures = 0;               // in the whole deployment; 0: no limit
  OnNoData on_no_data = OnNoData::pause;
  base::Milliseconds no_data_timeout{300'000};
};

// --- [preflight]

struct Warmup {
  std::vector<std::string> paths;      // "/", "/search?q=a"
  int count = 1;                       // requests for each path
  std::string listener;                // by name; "" = the first that is tcp
  base::Milliseconds timeout{30'000};  // of all together
};

struct Preflight {
  std::optional<Warmup> warmup;
  std::vector<Command> smoke;
};

// --- [[worker]]

// A process without a listener. It belongs to the release that is committed: it never runs in two
// versions at once.
struct Worker {
  std::string name;
  std::vector<std::string> command;  // as the service's, no placeholders of sockets
  int stop_signal = SIGTERM;
  base::Milliseconds stop_timeout{10'000};
  bool operator==(const Worker&) const = default;
};

}  // namespace updagent::release
