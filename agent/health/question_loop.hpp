// Asks many questions in one thread: who is due, who is being asked, who has answered. What else
// needs serving meanwhile (ProbeContext::served) is served.
#pragma once

#include <curl/curl.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/health/probe_run.hpp"
#include "agent/health/probes.hpp"

namespace updagent::health {

// The kernel's policy has room for eight connections that are steered (listen::kMaxProbes); half of
// them are for others: `updagent probe-connect`, smoke commands.
inline constexpr int kMaxSteered = 4;

class QuestionLoop {
 public:
  using Start = std::function<StartedRun(CURLM* multi)>;
  struct Answer {
    std::size_t index = 0;  // of the question
    Finding finding;
    std::int64_t started_us = 0;
    std::int64_t duration_us = 0;
  };

  // `context` must outlive the loop, and what the questions need the loop.
  static base::Result<QuestionLoop> make(const ProbeContext& context);

  // A question that nobody asks yet. Of those that are steered at most kMaxSteered are asked at
  // once.
  std::size_t add(Start start, bool is_steered);
  // On base::monotonic_now_us(). If it is being asked now, that is broken off.
  void ask(std::size_t index, std::int64_t at_us);
  bool is_asked(std::size_t index) const { return slots_[index].run != nullptr; }

  // Starts what is due, waits at most `at_most` for an answer, the next start, something to serve
  // or the interrupt, and returns the answers, perhaps none. What has answered is not asked again
  // before ask().
  base::Result<std::vector<Answer>> step(base::Milliseconds at_most);

 private:
  struct MultiFree {
    void operator()(CURLM* multi) const { curl_multi_cleanup(multi); }
  };
  struct Slot {
    Start start;
    bool is_steered = false;
    std::optional<std::int64_t> due_us;
    std::int64_t started_us = 0;
    std::unique_ptr<ProbeRun> run;
  };

  QuestionLoop(const ProbeContext& context, std::unique_ptr<CURLM, MultiFree> multi)
      : context_(&context), multi_(std::move(multi)) {}

  int steered() const;
  Slot* next_due(std::int64_t now_us);
  base::Status start_due();
  base::Milliseconds time_to_wait(base::Milliseconds at_most) const;
  std::vector<curl_waitfd> others() const;
  base::Status wait(base::Milliseconds at_most);
  base::Status end_transfers();
  std::vector<Answer> take_answers();

  const ProbeContext* context_;
  std::unique_ptr<CURLM, MultiFree> multi_;  // outlives the transfers in the slots
  std::vector<Slot> slots_;
};

}  // namespace updagent::health
