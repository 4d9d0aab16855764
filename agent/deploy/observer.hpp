// What a deployment tells whoever watches it: the command line draws it, nobody has to.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/clock.hpp"

namespace updagent::deploy {

struct BytesProgress {
  std::string_view what;  // "fetching", "unpacking"
  std::uint64_t done = 0;
  std::optional<std::uint64_t> total;  // bytes
  std::string note;                    // while waiting: "link lost (connection refused)"
  base::Milliseconds retry_in{0};      // while waiting
};

// A share of new connections, as it is now. Times are of this step (or of the watch).
struct RolloutProgress {
  std::vector<int> percents;      // of all steps
  std::size_t step = 0;           // index of the present one
  bool begun = true;              // false: held back before the first step, nobody comes yet
  bool watching = false;          // all steps are done
  double measured_percent = -1;   // of new connections since the step began; below 0: none came
  std::uint64_t connections = 0;  // of the candidate, since the step began
  base::Milliseconds left{0};
  base::Milliseconds whole{0};
  bool paused = false;
  std::string waiting_for;  // why it goes on past its time, "" when it does not
};

class Observer {
 public:
  virtual ~Observer() = default;
  virtual void started(std::string_view trace_id, std::string_view app, std::string_view from,
                       std::string_view to) = 0;
  virtual void stage_started(std::string_view stage) = 0;
  virtual void stage_finished(std::string_view stage, std::string_view status,
                              std::int64_t duration_us, std::string_view summary) = 0;
  virtual void progress(const BytesProgress& progress) = 0;
  virtual void watching(base::Milliseconds left, base::Milliseconds whole) = 0;
  // About once a second, and at the beginning and the end of each step (`ended`).
  virtual void rollout(const RolloutProgress& progress, bool ended) = 0;
  virtual void note(std::string_view line) = 0;     // worth knowing
  virtual void warning(std::string_view line) = 0;  // worth acting on
};

}  // namespace updagent::deploy
