// Is the candidate as good as it must be, in absolute terms and beside the version that serves? The
// gates of a release, judged once per window, and its probes, in one poll loop. Decides nothing:
// what a verdict means is deploy's business.
//
// A windowed gate (scrape, prometheus, kernel) compares what was counted between the beginning and
// the end of a window, of the candidate and of the active generation alike. It is judged once, at
// the end of the window, never before (no peeking); with fewer than its min_samples the same window
// goes on. Relative error ratios are an exact binomial test of the candidate's errors (alpha
// kAlpha), relative quantiles a plain ratio.
//
// What a scrape gate counts where it does not say so:
//   requests  http_requests_total, all series
//   errors    those of the requests whose label code, status or status_code is a 5.. of HTTP
//   latency   http_request_duration_seconds, a classic histogram (its _bucket series with "le")
// Counters are differenced series by series, and one that appears counts from 0. Where one fell the
// two pages are not of one count: a process was started anew, or several workers answer in turns,
// each for itself. What grew meanwhile nobody knows, so the window begins anew. A page without the
// counters is no data; so is one without any that says what failed, as 0 errors could be no errors
// or no such counter. The relative `ratio` is a test of events among events: a numerator that
// counts bytes or seconds can only be judged absolutely.
//
// Our own probes and looks at the page are no samples: an ordinary server counts them among its
// requests, so as many as were asked are taken off what must be enough. Not where the selector of
// requests has matchers, which can leave them out, nor once a page has counted fewer.
//
// Too few samples are no data too, but a window that goes on: on_no_data = "fail" is not meant for
// them, no_data_timeout is.
//
// Where the active generation has no traffic of its own any more (100 %, the watch), the last
// window in which it had enough stands in, and before any such window the totals of its life so
// far.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "agent/base/error.hpp"
#include "agent/base/strict_json.hpp"
#include "agent/health/probes.hpp"
#include "agent/release/rollout.hpp"

namespace updagent::health {

// One good release in a thousand may be condemned by one window, if its true ratio is just at the
// limit; far fewer when it is below, or when failures = 2 in a row are needed.
inline constexpr double kAlpha = 0.001;
// Ten requests can neither condemn nor bless.
inline constexpr std::int64_t kMinSamples = 100;
// A quantile needs so many beyond it: p99 is of 500 requests at least.
inline constexpr std::int64_t kMinBeyondQuantile = 5;

// One of the two generations that are compared.
struct Side {
  std::uint64_t generation = 0;
  std::string version;
  Steer steer;  // brings a connection of ours to it; empty: connections go as they fall
};

// What the kernel knows of a generation, with or without its help. Totals since it was started but
// for waiting, memory and descriptors, which are of now.
struct KernelFigures {
  std::uint64_t selected = 0;  // connections of users that steering chose it for
  std::uint64_t waiting = 0;   // in its accept queues
  std::uint64_t waiting_limit = 0;
  std::uint64_t crashes = 0;
  std::optional<std::uint64_t> memory_bytes;
  std::optional<std::uint64_t> cpu_us;
  std::optional<std::uint64_t> oom_kills;
  std::optional<std::uint64_t> descriptors;
};
struct Figures {
  KernelFigures candidate;
  std::optional<KernelFigures> active;
};

struct JudgeSetup {
  std::span<const release::Probe>
      probes;                            // asked of both sides; only the candidate's answers judge
  std::span<const release::Gate> gates;  // together with default_gates(), if those are wanted
  ProbeContext context;                  // its `steer` is not used: the sides have theirs
  std::string app;
  Side candidate;
  std::optional<Side> active;  // nothing: there is none, relative conditions are skipped
  std::function<base::Result<Figures>()> kernel;  // empty: kernel gates are skipped
};

enum class GateStatus { passed, failed, no_data, skipped };
std::string_view gate_status_name(GateStatus status);

// One judgement, for the log.
struct GateReport {
  std::string gate;
  GateStatus status = GateStatus::passed;
  std::string text;    // "error_ratio 0.31 (31 of 100), expected <= 0.05"
  base::Json numbers;  // candidate, active, p_value, window_ms ... as far as they are there
  int in_a_row = 0;    // failures, this one included
  int in_total = 0;
};

struct Standing {
  bool all_passed = false;  // since begin_step(): every gate has passed a whole window, every
                            // probe's last answer is good
  std::string waiting_for;  // of those that have not, the first one and why: "gate 'errors': 12 of
                            // 100 samples"
  bool no_data = false;     // that one waits for data (on_no_data = "pause")
};

// The gates of a release that wrote no kernel gate of its own, judged once per `window`: its queue,
// its memory, kills for want of memory. They need no traffic.
std::vector<release::Gate> default_gates(base::Milliseconds window);

class GateJudge {
 public:
  using OnGate = std::function<void(const GateReport&)>;

  // Everything in `setup` that is a view must outlive the judge. `on_probe` gets the candidate's
  // results; those of the active one under the name "NAME (active)".
  static base::Result<GateJudge> make(JudgeSetup setup, OnResult on_probe, OnGate on_gate);
  GateJudge(GateJudge&&) noexcept;
  GateJudge& operator=(GateJudge&&) noexcept;
  ~GateJudge();

  // All windows begin anew, and nothing has passed yet. Counts of failures go on.
  void begin_step();
  // Asks on, waits at most `at_most` for an answer. A Verdict (healthy false, or interrupted) as
  // soon as one is against the release; nothing while none is.
  base::Result<std::optional<Verdict>> step(base::Milliseconds at_most);
  Standing standing() const;
  // The time without data begins anew: nobody is to blame for what a pause takes.
  void restart_no_data_clocks();

 private:
  struct State;
  explicit GateJudge(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace updagent::health
