// What the answers mean: in a row, enough, too many.
#include <algorithm>

#include "agent/health/probe_loop.hpp"
#include "agent/health/probes.hpp"

namespace updagent::health {
namespace {

constexpr base::Milliseconds kTick{1000};     // a countdown that people watch
constexpr base::Milliseconds kNoEnd{60'000};  // of one wait: the loop goes on

// The answers of one probe so far.
class Tally {
 public:
  explicit Tally(const release::Probe& probe) : probe_(&probe) {}

  void add(bool healthy) {
    in_a_row_ = healthy == last_healthy_ ? in_a_row_ + 1 : 1;
    last_healthy_ = healthy;
    if (!proven()) ++unproven_;
  }
  int in_a_row() const { return in_a_row_; }
  bool settled() const { return last_healthy_; }
  bool proven() const { return last_healthy_ && in_a_row_ >= probe_->successes; }
  bool failed() const { return !last_healthy_ && in_a_row_ >= probe_->failures; }
  bool undecided_for_too_long() const { return unproven_ >= kMaxResultsToProve; }

 private:
  const release::Probe* probe_;
  int in_a_row_ = 0;
  bool last_healthy_ = false;
  int unproven_ = 0;
};

class Judge {
 public:
  Judge(std::span<const release::Probe> probes, const OnResult& on_result)
      : probes_(probes), tallies_(probes.begin(), probes.end()), on_result_(on_result) {}

  // A verdict when this answer decides against the release.
  std::optional<Verdict> hear(ProbeLoop::Answer answer, bool must_be_proven) {
    const release::Probe& probe = probes_[answer.index];
    Tally& tally = tallies_[answer.index];
    tally.add(answer.finding.healthy);
    ++results_;
    ProbeResult result{probe.name,
                       answer.finding.healthy,
                       std::move(answer.finding.problem),
                       std::move(answer.finding.output),
                       answer.duration_us,
                       tally.in_a_row()};
    if (on_result_) on_result_(result);
    if (tally.failed()) return against(result, failed_text(tally));
    if (must_be_proven && !tally.proven() && tally.undecided_for_too_long())
      return against(result, "neither passed nor failed in " + std::to_string(kMaxResultsToProve) +
                                 " results, the last one");
    return std::nullopt;
  }

  bool all_proven() const {
    return std::all_of(tallies_.begin(), tallies_.end(),
                       [](const Tally& tally) { return tally.proven(); });
  }
  // The last answer of each was good.
  bool all_settled() const {
    return std::all_of(tallies_.begin(), tallies_.end(),
                       [](const Tally& tally) { return tally.settled(); });
  }
  Verdict too_late(base::Milliseconds limit) const {
    Verdict verdict;
    verdict.results = results_;
    const auto open = std::find_if(tallies_.begin(), tallies_.end(),
                                   [](const Tally& tally) { return !tally.proven(); });
    if (open != tallies_.end())
      verdict.probe = probes_[static_cast<std::size_t>(open - tallies_.begin())].name;
    verdict.reason = "probe '" + verdict.probe + "' had neither passed nor failed after " +
                     base::format_duration(limit);
    return verdict;
  }
  Verdict healthy() const {
    Verdict verdict;
    verdict.healthy = true;
    verdict.results = results_;
    return verdict;
  }
  Verdict interrupted() const {
    Verdict verdict;
    verdict.interrupted = true;
    verdict.reason = "interrupted";
    verdict.results = results_;
    return verdict;
  }

 private:
  static std::string failed_text(const Tally& tally) {
    if (tally.in_a_row() == 1) return "failed";
    return "failed " + std::to_string(tally.in_a_row()) + " times in a row";
  }
  Verdict against(ProbeResult& result, const std::string& how) const {
    Verdict verdict;
    verdict.reason = "probe '" + result.probe + "' " + how + ": " +
                     (result.healthy ? std::string("healthy") : std::move(result.problem));
    verdict.probe = std::move(result.probe);
    verdict.output = std::move(result.output);
    verdict.results = results_;
    return verdict;
  }

  std::span<const release::Probe> probes_;
  std::vector<Tally> tallies_;
  const OnResult& on_result_;
  std::uint64_t results_ = 0;
};

bool interrupt_came(const ProbeContext& context) {
  return context.interrupt != nullptr && context.interrupt->requested();
}

// What else may end it: the one who asks for the probes knows.
std::optional<Verdict> tick(const ProbeContext& context) {
  if (!context.on_tick) return std::nullopt;
  const base::Status status = context.on_tick();
  if (status) return std::nullopt;
  Verdict verdict;
  verdict.reason = status.error().line();
  return verdict;
}

// Asks on until `done`, or a verdict.
template <class Done>
base::Result<Verdict> ask_until(Done done, Judge& judge, ProbeLoop& loop,
                                const ProbeContext& context) {
  const base::Deadline end = base::Deadline::in(context.prove_limit);
  while (!done()) {
    if (interrupt_came(context)) return judge.interrupted();
    if (end.passed()) return judge.too_late(context.prove_limit);
    if (auto verdict = tick(context)) return std::move(*verdict);
    UPD_ASSIGN(auto answers, loop.step(std::min(end.left(), context.on_tick ? kTick : kNoEnd)));
    for (ProbeLoop::Answer& answer : answers)
      if (auto verdict = judge.hear(std::move(answer), true)) return std::move(*verdict);
  }
  return judge.healthy();
}

}  // namespace

base::Result<Verdict> prove(std::span<const release::Probe> probes, const ProbeContext& context,
                            const OnResult& on_result) {
  Judge judge(probes, on_result);
  UPD_ASSIGN(ProbeLoop loop, ProbeLoop::make(probes, context, true));
  return ask_until([&judge] { return judge.all_proven(); }, judge, loop, context);
}

base::Result<Verdict> watch(std::span<const release::Probe> probes, base::Milliseconds span,
                            const ProbeContext& context, const OnResult& on_result,
                            const std::function<void(base::Milliseconds left)>& on_tick) {
  Judge judge(probes, on_result);
  if (span.count() <= 0) return judge.healthy();
  // no initial delay: prove() has waited for it
  UPD_ASSIGN(ProbeLoop loop, ProbeLoop::make(probes, context, false));
  const base::Deadline end = base::Deadline::in(span);
  base::Deadline next_tick = base::Deadline::in(base::Milliseconds(0));
  while (!end.passed()) {
    if (interrupt_came(context)) return judge.interrupted();
    if (next_tick.passed()) {
      if (on_tick) on_tick(end.left());
      if (auto verdict = tick(context)) return std::move(*verdict);
      next_tick = base::Deadline::in(kTick);
    }
    UPD_ASSIGN(auto answers, loop.step(std::min(end.left(), next_tick.left())));
    for (ProbeLoop::Answer& answer : answers)
      if (auto verdict = judge.hear(std::move(answer), false)) return std::move(*verdict);
  }
  return ask_until([&judge] { return judge.all_settled(); }, judge, loop, context);
}

}  // namespace updagent::health
