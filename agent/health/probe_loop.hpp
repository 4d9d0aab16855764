// Asks all probes of a release in one thread: who is due, who is running, who has answered.
#pragma once

#include <curl/curl.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "agent/health/probe_run.hpp"
#include "agent/health/probes.hpp"

namespace updagent::health {

// A probe that asks for less would be a load test, and `interval = "0s"` a busy loop.
inline constexpr base::Milliseconds kMinInterval{10};

class ProbeLoop {
 public:
  struct Answer {
    std::size_t index = 0;  // of the probe
    Finding finding;
    std::int64_t duration_us = 0;
  };

  // `probes` and `context` must outlive the loop.
  static base::Result<ProbeLoop> make(std::span<const release::Probe> probes,
                                      const ProbeContext& context, bool with_initial_delay);

  // Starts what is due, waits at most `at_most` for an answer, the next start or the interrupt, and
  // returns the answers, perhaps none.
  base::Result<std::vector<Answer>> step(base::Milliseconds at_most);

 private:
  struct MultiFree {
    void operator()(CURLM* multi) const { curl_multi_cleanup(multi); }
  };
  struct Slot {
    const release::Probe* probe = nullptr;
    std::int64_t due_us = 0;
    std::int64_t started_us = 0;
    std::unique_ptr<ProbeRun> run;  // one at a time
  };

  ProbeLoop(const ProbeContext& context, std::unique_ptr<CURLM, MultiFree> multi)
      : context_(&context), multi_(std::move(multi)) {}

  base::Status start_due();
  StartedRun start(const release::Probe& probe) const;
  base::Status wait(base::Milliseconds at_most);
  base::Status end_transfers();
  std::vector<Answer> take_answers();

  const ProbeContext* context_;
  std::unique_ptr<CURLM, MultiFree> multi_;  // outlives the transfers in the slots
  std::vector<Slot> slots_;
};

}  // namespace updagent::health
