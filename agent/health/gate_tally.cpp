#include "agent/health/gate_tally.hpp"

#include <utility>

#include "agent/base/text.hpp"
#include "agent/release/rollout_words.hpp"

namespace updagent::health {
namespace {

int failures_of(const release::Gate& gate) {
  return gate.failures > 0 ? gate.failures : release::default_failures(gate.type);
}

std::string times(int count) {
  return count == 1 ? "failed" : "failed " + std::to_string(count) + " times";
}

}  // namespace

GateTally::GateTally(const release::Gate& gate, const GateJudge::OnGate& on_gate)
    : name_(gate.name),
      title_("gate '" + gate.name + "'"),
      failures_(failures_of(gate)),
      max_failures_(gate.max_failures),
      on_no_data_(gate.on_no_data),
      no_data_timeout_(gate.no_data_timeout),
      on_gate_(&on_gate),
      reports_changes_only_(gate.type == release::GateType::probe),
      last_data_us_(base::monotonic_now_us()) {}

GateTally::GateTally(const release::Probe& probe, const GateJudge::OnGate&)
    : name_(probe.name),
      title_("probe '" + probe.name + "'"),
      failures_(probe.failures),
      on_gate_(nullptr),
      last_data_us_(base::monotonic_now_us()) {}

void GateTally::begin_step() {
  passed_ = false;
  status_.reset();
  text_.clear();
  restart_no_data_clock();
}

void GateTally::restart_no_data_clock() {
  last_data_us_ = base::monotonic_now_us();
}

std::optional<Verdict> GateTally::add(Judgement judgement) {
  status_ = judgement.status;
  text_ = judgement.text;
  count(judgement);
  if (is_news(judgement)) report(judgement);
  return decide(judgement);
}

void GateTally::count(const Judgement& judgement) {
  switch (judgement.status) {
    case GateStatus::passed:
      in_a_row_ = 0;
      passed_ = passed_ || !judgement.is_early;
      last_data_us_ = base::monotonic_now_us();
      return;
    case GateStatus::failed:
      ++in_a_row_;
      ++in_total_;
      passed_ = false;
      last_data_us_ = base::monotonic_now_us();
      return;
    case GateStatus::no_data:
      passed_ = passed_ && judgement.is_too_few;  // a window that goes on takes nothing back
      return;
    case GateStatus::skipped:
      passed_ = true;
      return;
  }
}

bool GateTally::is_news(const Judgement& judgement) const {
  if (on_gate_ == nullptr || !*on_gate_) return false;
  if (reported_ != judgement.status) return true;
  switch (judgement.status) {
    case GateStatus::passed:
      return !reports_changes_only_;
    case GateStatus::failed:
      return true;  // at most as many as the limits allow, unless they flap
    case GateStatus::no_data:
      return !judgement.is_too_few && judgement.text != reported_text_;
    case GateStatus::skipped:
      return judgement.text != reported_text_;
  }
  return true;
}

void GateTally::report(const Judgement& judgement) {
  reported_ = judgement.status;
  reported_text_ = judgement.text;
  (*on_gate_)({name_, judgement.status, judgement.text, judgement.numbers, in_a_row_, in_total_});
}

std::optional<Verdict> GateTally::decide(const Judgement& judgement) const {
  if (judgement.status == GateStatus::failed) {
    if (in_a_row_ >= failures_) {
      const std::string row = in_a_row_ > 1 ? " in a row" : "";
      return against(title_ + " " + times(in_a_row_) + row + ": " + judgement.text,
                     judgement.output);
    }
    if (max_failures_ > 0 && in_total_ >= max_failures_)
      return against(title_ + " " + times(in_total_) + " in total: " + judgement.text,
                     judgement.output);
  }
  const bool is_nothing = judgement.status == GateStatus::no_data && !judgement.is_too_few;
  if (is_nothing && on_no_data_ == release::OnNoData::fail)
    return against(title_ + " has no data: " + judgement.text, judgement.output);
  return overdue();
}

std::optional<Verdict> GateTally::overdue() const {
  if (status_ != GateStatus::no_data) return std::nullopt;
  if (base::monotonic_now_us() - last_data_us_ < no_data_timeout_.count() * 1000)
    return std::nullopt;
  return against(
      title_ + " has had no data for " + base::format_duration(no_data_timeout_) + ": " + text_,
      "");
}

Verdict GateTally::against(std::string reason, std::string output) const {
  Verdict verdict;
  verdict.probe = name_;
  verdict.reason = std::move(reason);
  verdict.output = std::move(output);
  return verdict;
}

std::string GateTally::waiting_for() const {
  if (!status_) return title_ + ": it has not been judged yet";
  if (status_ == GateStatus::failed) return title_ + " " + times(in_a_row_) + ": " + text_;
  if (status_ == GateStatus::passed) return title_ + ": its window is not over";
  return title_ + ": " + text_;
}

}  // namespace updagent::health
