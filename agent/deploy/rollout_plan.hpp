// What of a release's steps and gates is had on this node, and how often its figures are looked at.
// Private to deploy/.
#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "agent/config/settings.hpp"
#include "agent/release/manifest.hpp"

namespace updagent::deploy {

// What the steps and the watch must last together, for gates that nobody wrote to be judged at all.
inline constexpr base::Milliseconds kLeastForDefaultGates{2'000};

// What of the steps can be had: without somebody else to serve users, or where connections are not
// steered one by one, all goes at once. Spans are cut to what the node allows.
std::vector<release::Step> steps_to_take(const release::Rollout& wish, bool one_by_one,
                                         const config::AppSettings& settings);
struct GatesToJudge {
  std::vector<release::Gate> gates;
  std::vector<std::pair<std::string, std::string>> left_out;  // name, and why it can't be judged
};
struct Situation {
  bool service = false;
  bool handoff = false;
  bool steered = false;
  bool first = false;
};
// The release's gates, and the default ones beside them where it wrote no kernel gate and there is
// time to judge. `service`: the release runs one. `first`: of this app, which may have no users
// yet, so gates that need traffic would keep it from ever being committed. `steered`: connections
// of users, and ours, can be told apart by generation.
GatesToJudge gates_to_judge(const release::Manifest& manifest,
                            const std::vector<release::Step>& steps, const Situation& situation,
                            const config::AppSettings& settings);

// How old an answer of the supervisor may be that stands for now: of the figures that it has at
// hand, and of memory and descriptors, which cost it a walk through page tables.
struct LookEvery {
  base::Milliseconds figures{500};
  base::Milliseconds thorough{5'000};
};
// Often enough that no two looks of a kernel gate within a window see the same figures, and no two
// windows the same memory: else "twice in a row" could be one measurement.
LookEvery look_every(std::span<const release::Gate> gates);

// Until each of them has passed or failed for itself: as many answers as may fail in a row, each as
// late as it may be.
base::Milliseconds time_to_decide(std::span<const release::Probe> probes,
                                  std::span<const release::Gate> gates);

}  // namespace updagent::deploy
