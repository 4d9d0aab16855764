// What the judgements of one gate add up to: in a row, in total, whether it holds the step, and
// when it is against the release.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "agent/health/gate_run.hpp"
#include "agent/health/gates.hpp"

namespace updagent::health {

class GateTally {
 public:
  // Of answers to probes only changes are reported: they come every second. `on_gate` must outlive
  // the tally.
  GateTally(const release::Gate& gate, const GateJudge::OnGate& on_gate);
  // Of a probe that no gate names.
  GateTally(const release::Probe& probe, const GateJudge::OnGate& on_gate);

  void begin_step();
  void restart_no_data_clock();
  // A verdict when this decides against the release.
  std::optional<Verdict> add(Judgement judgement);
  // The same, when it has had no data for too long.
  std::optional<Verdict> overdue() const;

  bool passed() const { return passed_; }
  bool lacks_data() const { return status_ == GateStatus::no_data; }
  std::string waiting_for() const;

 private:
  void count(const Judgement& judgement);
  bool is_news(const Judgement& judgement) const;
  void report(const Judgement& judgement);
  std::optional<Verdict> decide(const Judgement& judgement) const;
  Verdict against(std::string reason, std::string output) const;

  std::string name_;
  std::string title_;  // "gate 'errors'", "probe 'healthz'"
  int failures_;       // in a row
  int max_failures_ = 0;
  release::OnNoData on_no_data_ = release::OnNoData::pause;
  base::Milliseconds no_data_timeout_{0};
  const GateJudge::OnGate* on_gate_;  // null for what no gate is
  bool reports_changes_only_ = false;

  bool passed_ = false;  // in this step, and has not failed since
  int in_a_row_ = 0;
  int in_total_ = 0;
  std::int64_t last_data_us_;
  std::optional<GateStatus> status_;  // of the last judgement
  std::string text_;                  // of the last judgement
  std::optional<GateStatus> reported_;
  std::string reported_text_;
};

}  // namespace updagent::health
