// What probes and gates said, as events: each change is one, a state that stays is none. Private to
// deploy/.
#pragma once

#include <map>
#include <set>
#include <span>
#include <string>

#include "agent/deploy/recorder.hpp"
#include "agent/health/gates.hpp"
#include "agent/release/manifest.hpp"

namespace updagent::deploy {

// A probe or a gate that flaps through a long watch: the log tells how it began, the count how it
// went on.
inline constexpr std::size_t kMaxProbeEvents = 50;
inline constexpr std::size_t kMaxGateEvents = 200;

class ProbeLog {
 public:
  // Both outlive the log.
  ProbeLog(Recorder& recorder, std::span<const release::Probe> probes)
      : recorder_(recorder), probes_(probes) {}

  void hear(const health::ProbeResult& result);
  void hear(const health::GateReport& report);
  // Writes down what was heard. Not while it is heard: users do not wait for a disk when something
  // is against the release.
  void flush();
  std::size_t changes() const { return changes_; }
  // This gate, some time; not one that nobody could judge.
  bool has_passed(const std::string& gate) const { return passed_.contains(gate); }
  // Of this gate, the newest; null when it never failed.
  journal::Json failure_of(const std::string& gate) const;

 private:
  int enough(const health::ProbeResult& result) const;

  Recorder& recorder_;
  std::span<const release::Probe> probes_;
  std::map<std::string, bool> failed_before_;
  std::map<std::string, health::GateStatus> gates_;  // as they were last told
  std::set<std::string> passed_;
  std::map<std::string, journal::Json> failures_;
  bool unwritten_ = false;
  std::size_t changes_ = 0;
  std::size_t gate_events_ = 0;
};

}  // namespace updagent::deploy
