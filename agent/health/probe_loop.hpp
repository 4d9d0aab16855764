// Asks all probes of a release, each again after its interval.
#pragma once

#include <span>
#include <vector>

#include "agent/health/question_loop.hpp"

namespace updagent::health {

// A probe that asks for less would be a load test, and `interval = "0s"` a busy loop.
inline constexpr base::Milliseconds kMinInterval{10};

StartedRun start_probe(const release::Probe& probe, const ProbeContext& context, CURLM* multi);
// A command goes nowhere: only these two reach one generation.
inline bool is_steered(const release::Probe& probe, const ProbeContext& context) {
  return context.steer && probe.type != release::ProbeType::exec;
}
// When to ask again after this answer.
std::int64_t next_question_us(const release::Probe& probe, const QuestionLoop::Answer& answer);

class ProbeLoop {
 public:
  using Answer = QuestionLoop::Answer;  // its index is that of the probe

  // `probes` and `context` must outlive the loop.
  static base::Result<ProbeLoop> make(std::span<const release::Probe> probes,
                                      const ProbeContext& context, bool with_initial_delay);
  base::Result<std::vector<Answer>> step(base::Milliseconds at_most);

 private:
  ProbeLoop(std::span<const release::Probe> probes, QuestionLoop loop)
      : probes_(probes), loop_(std::move(loop)) {}
  std::span<const release::Probe> probes_;
  QuestionLoop loop_;
};

}  // namespace updagent::health
