#include "agent/health/probe_loop.hpp"

#include <algorithm>
#include <utility>

namespace updagent::health {

StartedRun start_probe(const release::Probe& probe, const ProbeContext& context, CURLM* multi) {
  switch (probe.type) {
    case release::ProbeType::http:
      return start_http(probe, context, multi);
    case release::ProbeType::tcp:
      return start_tcp(probe, context, multi);
    case release::ProbeType::exec:
      return start_exec(probe, context);
  }
  return base::Error(base::Code::internal, "a probe of an unknown type");
}

std::int64_t next_question_us(const release::Probe& probe, const QuestionLoop::Answer& answer) {
  const base::Milliseconds interval = std::max(probe.interval, kMinInterval);
  return std::max(answer.started_us + interval.count() * 1000, base::monotonic_now_us());
}

base::Result<ProbeLoop> ProbeLoop::make(std::span<const release::Probe> probes,
                                        const ProbeContext& context, bool with_initial_delay) {
  UPD_ASSIGN(QuestionLoop questions, QuestionLoop::make(context));
  ProbeLoop loop(probes, std::move(questions));
  const std::int64_t now_us = base::monotonic_now_us();
  for (const release::Probe& probe : probes) {
    const auto start = [&probe, &context](CURLM* multi) {
      return start_probe(probe, context, multi);
    };
    const std::size_t index = loop.loop_.add(start, is_steered(probe, context));
    loop.loop_.ask(index, now_us + (with_initial_delay ? probe.initial_delay.count() * 1000 : 0));
  }
  return loop;
}

base::Result<std::vector<ProbeLoop::Answer>> ProbeLoop::step(base::Milliseconds at_most) {
  UPD_ASSIGN(auto answers, loop_.step(at_most));
  for (const Answer& answer : answers)
    loop_.ask(answer.index, next_question_us(probes_[answer.index], answer));
  return answers;
}

}  // namespace updagent::health
