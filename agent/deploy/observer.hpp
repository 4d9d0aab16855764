// What a deployment tells whoever watches it: the command line draws it, nobody has to.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/clock.hpp"

namespace updagent::deploy {

struct BytesProgress {
  std::string_view what;  // "fetching", "unpacking"
  std::uint64_t done = 0;
  std::optional<std::uint64_t> total;  // bytes
  std::string note;                    // while waiting: "link lost (connection refused)"
  base::Milliseconds retry_in{0};      // while waiting
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
  virtual void note(std::string_view line) = 0;     // worth knowing
  virtual void warning(std::string_view line) = 0;  // worth acting on
};

}  // namespace updagent::deploy
