#include "agent/deploy/rollout_plan.hpp"

#include <algorithm>

#include "agent/health/gates.hpp"
#include "agent/release/rollout_words.hpp"

namespace updagent::deploy {
namespace {

using base::Milliseconds;

// Of the gates that nobody wrote: several fit into the shortest span, so that what begins in it is
// seen in it.
constexpr Milliseconds kShortestDefaultWindow{1'000};
constexpr Milliseconds kLongestDefaultWindow{5'000};
constexpr int kDefaultWindowsInASpan = 5;
// The judge looks at kernel gates five times in their window (health/gates.cpp): at each of them
// anew.
constexpr int kFiguresInAWindow = 10;
// Whatever moment a window ends at, one of its own is there.
constexpr int kThoroughInAWindow = 2;

// "" when it can be judged. What can't be judged at all must not keep a release from its commit.
std::string why_not_judged(const release::Gate& gate, const Situation& situation) {
  const bool counts_connections = gate.condition.starts_with("accepted_ratio");
  const bool scrapes = gate.type == release::GateType::scrape;
  const bool needs_users =
      scrapes || gate.type == release::GateType::prometheus || counts_connections;
  if (situation.first && needs_users) return "a first release may have no users yet";
  if (situation.steered) return "";
  if (counts_connections) return "connections are not steered, so nobody counts them";
  if (scrapes && situation.handoff)
    return "connections are shared: each look at the page could be at another generation's";
  return "";
}

// Nothing: there is too little time to judge by them.
Milliseconds default_window(const release::Manifest& manifest,
                            const std::vector<release::Step>& steps,
                            const config::AppSettings& settings) {
  Milliseconds whole = std::min(manifest.rollout.watch, settings.max_watch);
  Milliseconds shortest = whole;
  for (const release::Step& step : steps) {
    whole += step.duration;
    if (step.duration.count() > 0)
      shortest = shortest.count() > 0 ? std::min(shortest, step.duration) : step.duration;
  }
  if (whole < kLeastForDefaultGates) return Milliseconds(0);
  return std::clamp(shortest / kDefaultWindowsInASpan, kShortestDefaultWindow,
                    kLongestDefaultWindow);
}

// However late an answer is, or without data.
Milliseconds time_of_one(const release::Gate& gate, std::span<const release::Probe> probes) {
  if (gate.type != release::GateType::probe) {
    const bool may_lack_data = gate.type != release::GateType::exec;
    return gate.window + gate.timeout + (may_lack_data ? gate.no_data_timeout : Milliseconds(0));
  }
  const auto probe = std::ranges::find(probes, gate.probe, &release::Probe::name);
  return probe == probes.end() ? Milliseconds(0) : probe->interval + probe->timeout;
}

bool needs_a_thorough_look(const release::Gate& gate) {
  return gate.condition.find("memory") != std::string::npos ||
         gate.condition.find("descriptors") != std::string::npos;
}

}  // namespace

std::vector<release::Step> steps_to_take(const release::Rollout& wish, bool one_by_one,
                                         const config::AppSettings& settings) {
  if (!one_by_one || wish.steps.empty()) {
    release::Step all;
    all.duration = wish.steps.empty() ? Milliseconds(0) : wish.steps.back().duration;
    all.duration = std::min(all.duration, settings.max_watch);
    return {all};
  }
  std::vector<release::Step> steps = wish.steps;
  for (release::Step& step : steps) step.duration = std::min(step.duration, settings.max_watch);
  return steps;
}

GatesToJudge gates_to_judge(const release::Manifest& manifest,
                            const std::vector<release::Step>& steps, const Situation& situation,
                            const config::AppSettings& settings) {
  GatesToJudge judged;
  bool has_kernel_gate = false;
  for (release::Gate gate : manifest.gates) {
    gate.no_data_timeout = std::min(gate.no_data_timeout, settings.max_step_patience);
    has_kernel_gate = has_kernel_gate || gate.type == release::GateType::kernel;
    const std::string why = why_not_judged(gate, situation);
    if (why.empty())
      judged.gates.push_back(std::move(gate));
    else
      judged.left_out.push_back({gate.name, why});
  }
  if (!situation.service || has_kernel_gate) return judged;
  const Milliseconds window = default_window(manifest, steps, settings);
  if (window.count() == 0) return judged;
  for (release::Gate& gate : health::default_gates(window)) judged.gates.push_back(std::move(gate));
  return judged;
}

LookEvery look_every(std::span<const release::Gate> gates) {
  LookEvery every;
  for (const release::Gate& gate : gates) {
    if (gate.type != release::GateType::kernel) continue;
    every.figures = std::min(every.figures, gate.window / kFiguresInAWindow);
    if (needs_a_thorough_look(gate))
      every.thorough = std::min(every.thorough, gate.window / kThoroughInAWindow);
  }
  return every;
}

Milliseconds time_to_decide(std::span<const release::Probe> probes,
                            std::span<const release::Gate> gates) {
  Milliseconds longest{0};
  for (const release::Probe& probe : probes)
    longest = std::max(longest, probe.failures * (probe.interval + probe.timeout));
  for (const release::Gate& gate : gates) {
    const int failures = gate.failures > 0 ? gate.failures : release::default_failures(gate.type);
    longest = std::max(longest, failures * time_of_one(gate, probes));
  }
  return longest;
}

}  // namespace updagent::deploy
