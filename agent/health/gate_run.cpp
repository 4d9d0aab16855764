#include "agent/health/gate_run.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

#include "agent/release/rollout_words.hpp"

namespace updagent::health {
namespace {

constexpr int kLooksPerWindow = 4;

class SkippedGate : public GateRun {
 public:
  explicit SkippedGate(std::string why) : why_(std::move(why)) {}
  std::optional<Judgement> begin() override { return skipped(why_); }

 private:
  std::string why_;
};

}  // namespace

Judgement no_data(std::string text) {
  Judgement judgement;
  judgement.status = GateStatus::no_data;
  judgement.text = std::move(text);
  return judgement;
}

Judgement skipped(std::string text) {
  Judgement judgement;
  judgement.status = GateStatus::skipped;
  judgement.text = std::move(text);
  return judgement;
}

std::unique_ptr<GateRun> make_skipped_gate(std::string why) {
  return std::make_unique<SkippedGate>(std::move(why));
}

base::Result<release::Condition> condition_of(const release::Gate& gate) {
  return release::parse_condition(gate.condition, gate.type,
                                  "the condition of the gate '" + gate.name + "'",
                                  base::Code::manifest_invalid);
}

bool holds(release::Comparison comparison, double value, double limit) {
  switch (comparison) {
    case release::Comparison::less:
      return value < limit;
    case release::Comparison::less_or_equal:
      return value <= limit;
    case release::Comparison::greater:
      return value > limit;
    case release::Comparison::greater_or_equal:
      return value >= limit;
  }
  return false;
}

bool is_upper(release::Comparison comparison) {
  return comparison == release::Comparison::less ||
         comparison == release::Comparison::less_or_equal;
}

std::string number_text(double value) {
  std::array<char, 32> text{};
  static_cast<void>(std::snprintf(text.data(), text.size(), "%.4g", value));
  return text.data();
}

std::string expected_text(const release::Condition& condition) {
  std::string text = "expected " + std::string(release::comparison_text(condition.comparison)) +
                     " " + number_text(condition.limit);
  if (condition.relative) text += " x active";
  return text;
}

base::Milliseconds look_again(const release::Gate& gate) {
  return std::max(gate.window / kLooksPerWindow, release::kShortestWindow);
}

void PairedQuestion::ask_in(base::Milliseconds span) {
  const std::int64_t at_us = base::monotonic_now_us() + span.count() * 1000;
  findings_ = {};
  for (const auto& index : indexes_)
    if (index) loop_->ask(*index, at_us);
}

bool PairedQuestion::hear(QuestionLoop::Answer answer) {
  bool all = true;
  for (std::size_t side = 0; side < kSides; ++side) {
    if (!indexes_[side]) continue;
    if (*indexes_[side] == answer.index) findings_[side] = std::move(answer.finding);
    all = all && findings_[side].has_value();
  }
  return all;
}

std::vector<std::size_t> PairedQuestion::indexes() const {
  std::vector<std::size_t> indexes;
  for (const auto& index : indexes_)
    if (index) indexes.push_back(*index);
  return indexes;
}

}  // namespace updagent::health
