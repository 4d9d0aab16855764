// One gate under judgement: five kinds with one face for the judge.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/health/gates.hpp"
#include "agent/health/question_loop.hpp"
#include "agent/release/gate_condition.hpp"

namespace updagent::health {

struct Judgement {
  GateStatus status = GateStatus::passed;
  std::string text;
  base::Json numbers = base::Json::object();
  std::string output;       // of a command
  bool is_too_few = false;  // no_data: there are some, and the window goes on until they are enough
  bool is_early = false;    // passed: but not yet a whole window of this step
};
Judgement no_data(std::string text);
Judgement skipped(std::string text);

enum SideIndex : std::uint8_t { kCandidate, kActive, kSides };

// How often we have asked each side over http. An ordinary server counts that like what users ask.
struct OwnRequests {
  std::array<std::uint64_t, kSides> asked{};
};

// What the gates of one judge share. All of it outlives them.
struct Judging {
  const JudgeSetup& setup;
  const ProbeContext& candidate;  // with the side's own `steer`
  const ProbeContext* active;     // null when there is no active side
  const ProbeContext& unsteered;  // to someone else's server
  QuestionLoop& loop;
  OwnRequests& own;
};

class GateRun {
 public:
  virtual ~GateRun() = default;
  // A window begins now; what is under way is of the past.
  virtual std::optional<Judgement> begin() = 0;
  // To one of its questions.
  virtual std::optional<Judgement> hear(QuestionLoop::Answer&&) { return std::nullopt; }
  // About once a second (kernel gates).
  virtual std::optional<Judgement> look(const base::Result<Figures>&) { return std::nullopt; }
  // Its indexes in the loop.
  virtual std::vector<std::size_t> questions() const { return {}; }
};
using MadeGate = base::Result<std::unique_ptr<GateRun>>;

// `gate` must outlive what is made. Code::manifest_invalid for conditions and selectors that are
// none.
MadeGate make_scrape_gate(const release::Gate& gate, const Judging& judging);
MadeGate make_prometheus_gate(const release::Gate& gate, const Judging& judging);
MadeGate make_kernel_gate(const release::Gate& gate, const Judging& judging);
MadeGate make_exec_gate(const release::Gate& gate, const Judging& judging);
// One that is never judged.
std::unique_ptr<GateRun> make_skipped_gate(std::string why);

// --- what conditions have in common

base::Result<release::Condition> condition_of(const release::Gate& gate);
bool holds(release::Comparison comparison, double value, double limit);
// A limit from above: errors, times. The others are limits from below.
bool is_upper(release::Comparison comparison);
std::string number_text(double value);                           // "0.31"
std::string expected_text(const release::Condition& condition);  // "expected <= 3 x active"
// After an answer that decided nothing: a part of the window, so that it is not twice as long for
// want of one sample.
base::Milliseconds look_again(const release::Gate& gate);

// The same question to both sides at the same time; over when both have answered.
class PairedQuestion {
 public:
  PairedQuestion(QuestionLoop& loop, QuestionLoop::Start candidate, bool candidate_is_steered)
      : loop_(&loop) {
    indexes_[kCandidate] = loop.add(std::move(candidate), candidate_is_steered);
  }
  void add_active(QuestionLoop::Start active, bool is_steered) {
    indexes_[kActive] = loop_->add(std::move(active), is_steered);
  }
  void ask_in(base::Milliseconds span);
  // True with the last answer.
  bool hear(QuestionLoop::Answer answer);
  const std::optional<Finding>& finding(SideIndex side) const { return findings_[side]; }
  bool is_good(SideIndex side) const { return findings_[side] && findings_[side]->healthy; }
  std::vector<std::size_t> indexes() const;

 private:
  QuestionLoop* loop_;
  std::array<std::optional<std::size_t>, kSides> indexes_;
  std::array<std::optional<Finding>, kSides> findings_;
};

}  // namespace updagent::health
