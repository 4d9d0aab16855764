#include "agent/deploy/probe_log.hpp"

#include <algorithm>

namespace updagent::deploy {

int ProbeLog::enough(const health::ProbeResult& result) const {
  const auto probe = std::find_if(probes_.begin(), probes_.end(),
                                  [&](const auto& known) { return known.name == result.probe; });
  return probe == probes_.end() || !result.healthy ? 1 : probe->successes;
}

void ProbeLog::hear(const health::ProbeResult& result) {
  if (result.in_a_row != enough(result)) return;
  if (++changes_ > kMaxProbeEvents) return;
  const std::string_view passed = failed_before_[result.probe] ? "probe.recovered" : "probe.passed";
  failed_before_[result.probe] = !result.healthy;
  recorder_.event(result.healthy ? passed : "probe.failed", result.healthy ? "success" : "failure",
                  {{"probe", result.probe}, {"problem", result.problem}, {"output", result.output}},
                  result.duration_us);
  unwritten_ = true;
}

// Failures always, as long as there is room; that a gate holds once, until it does not.
void ProbeLog::hear(const health::GateReport& report) {
  const auto before = gates_.find(report.gate);
  const bool failed = report.status == health::GateStatus::failed;
  const bool is_news = before == gates_.end() || before->second != report.status || failed;
  gates_[report.gate] = report.status;
  if (report.status == health::GateStatus::passed) passed_.insert(report.gate);
  journal::Json detail = {
      {"gate", report.gate}, {"what", report.text}, {"numbers", report.numbers}};
  if (failed) {
    detail["in_a_row"] = report.in_a_row;
    detail["in_total"] = report.in_total;
    failures_[report.gate] = detail;
  }
  if (!is_news || ++gate_events_ > kMaxGateEvents) return;
  recorder_.event("gate." + std::string(health::gate_status_name(report.status)),
                  failed ? "failure" : "success", std::move(detail));
  unwritten_ = true;
}

// A driver that dies afterwards has said what it saw.
void ProbeLog::flush() {
  if (!unwritten_) return;
  unwritten_ = false;
  static_cast<void>(recorder_.flush());
}

journal::Json ProbeLog::failure_of(const std::string& gate) const {
  const auto found = failures_.find(gate);
  return found == failures_.end() ? journal::Json() : found->second;
}

}  // namespace updagent::deploy
