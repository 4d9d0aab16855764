// What the kernel knows of both sides, looked at about once a second through each window.
#include <algorithm>
#include <functional>

#include "agent/base/text.hpp"
#include "agent/health/default_gates.hpp"
#include "agent/health/gate_run.hpp"
#include "agent/health/window.hpp"

namespace updagent::health {
namespace {

// One side through one window.
class Seen {
 public:
  void add(const KernelFigures& figures) {
    if (looks_ == 0) first_ = figures;
    if (looks_ > 0 && figures.waiting < last_.waiting) fell_ = true;
    least_waiting_ = looks_ == 0 ? figures.waiting : std::min(least_waiting_, figures.waiting);
    full_ = full_ && figures.waiting_limit > 0 && figures.waiting >= figures.waiting_limit;
    last_ = figures;
    ++looks_;
  }
  // Two at least, or there is no "meanwhile".
  bool is_enough() const { return looks_ >= 2; }
  const KernelFigures& last() const { return last_; }
  std::uint64_t least_waiting() const { return least_waiting_; }
  double selected() const { return grown(first_.selected, last_.selected); }
  // Of what came: all that does not wait. Negative when only what is not counted (our own probes)
  // has come to the queue.
  double accepted() const {
    return selected() - (static_cast<double>(last_.waiting) - static_cast<double>(first_.waiting));
  }
  double cpu_us() const { return grown(first_.cpu_us.value_or(0), last_.cpu_us.value_or(0)); }
  bool has_cpu() const { return first_.cpu_us && last_.cpu_us; }
  bool is_full() const { return looks_ > 0 && full_; }
  bool fell() const { return fell_; }

 private:
  static double grown(std::uint64_t before, std::uint64_t after) {
    return increase(static_cast<double>(before), static_cast<double>(after));
  }
  int looks_ = 0;
  KernelFigures first_;
  KernelFigures last_;
  std::uint64_t least_waiting_ = 0;
  bool fell_ = false;
  bool full_ = true;  // at every look
};

// What all kernel gates have in common: the window.
class KernelGate : public GateRun {
 public:
  explicit KernelGate(const release::Gate& gate) : gate_(gate) {}

  std::optional<Judgement> begin() override {
    candidate_ = {};
    active_.reset();
    began_us_ = base::monotonic_now_us();
    return std::nullopt;
  }

  std::optional<Judgement> look(const base::Result<Figures>& figures) override {
    if (!figures) return missing(figures.error().line());
    candidate_.add(figures->candidate);
    if (figures->active) {
      if (!active_) active_.emplace();
      active_->add(*figures->active);
    }
    const std::int64_t window_us = base::monotonic_now_us() - began_us_;
    if (window_us < gate_.window.count() * 1000 || !candidate_.is_enough()) return std::nullopt;
    Judgement judgement = judge(window_us);
    judgement.numbers["window_ms"] = window_us / 1000;
    if (!judgement.is_too_few) restart(*figures);
    return judgement;
  }

 protected:
  virtual Judgement judge(std::int64_t window_us) = 0;

  // Nobody wrote the default gates: they ask for nothing that a node may not have.
  Judgement missing(std::string why) const {
    return is_default(gate_) ? skipped(std::move(why)) : no_data(std::move(why));
  }
  const release::Gate& gate() const { return gate_; }
  const Seen& candidate() const { return candidate_; }
  const std::optional<Seen>& active() const { return active_; }

 private:
  // The next window begins with the look that ended this one.
  void restart(const Figures& figures) {
    static_cast<void>(begin());
    candidate_.add(figures.candidate);
    if (figures.active) active_.emplace().add(*figures.active);
  }

  const release::Gate& gate_;
  Seen candidate_;
  std::optional<Seen> active_;
  std::int64_t began_us_ = 0;
};

// --- what a release can write

struct KernelMetric {
  std::string_view name;
  std::function<std::optional<double>(const Seen&, std::int64_t window_us)> value;
};

std::optional<double> number(const std::optional<std::uint64_t>& figure) {
  if (!figure) return std::nullopt;
  return static_cast<double>(*figure);
}

std::optional<double> accepted_ratio(const Seen& seen) {
  if (seen.selected() <= 0) return std::nullopt;
  if (seen.is_full()) return 0;  // what found no place in the queue was selected too
  return std::clamp(seen.accepted() / seen.selected(), 0.0, 1.0);
}

const KernelMetric* metric_of(const std::string& name) {
  static const std::vector<KernelMetric> kMetrics = {
      {"queue", [](const Seen& seen, auto) { return static_cast<double>(seen.least_waiting()); }},
      {"accepted_ratio", [](const Seen& seen, auto) { return accepted_ratio(seen); }},
      {"memory", [](const Seen& seen, auto) { return number(seen.last().memory_bytes); }},
      {"cpu",
       [](const Seen& seen, std::int64_t window_us) -> std::optional<double> {
         if (!seen.has_cpu()) return std::nullopt;
         return seen.cpu_us() / static_cast<double>(std::max<std::int64_t>(window_us, 1));
       }},
      {"descriptors", [](const Seen& seen, auto) { return number(seen.last().descriptors); }},
      {"crashes", [](const Seen& seen, auto) { return static_cast<double>(seen.last().crashes); }},
      {"oom_kills", [](const Seen& seen, auto) { return number(seen.last().oom_kills); }},
  };
  const auto found = std::ranges::find(kMetrics, name, &KernelMetric::name);
  return found == kMetrics.end() ? nullptr : &*found;
}

class ConditionGate : public KernelGate {
 public:
  ConditionGate(const release::Gate& gate, release::Condition condition, const KernelMetric& metric)
      : KernelGate(gate), condition_(std::move(condition)), metric_(metric) {}

 protected:
  Judgement judge(std::int64_t window_us) override {
    if (metric_.name == "accepted_ratio" && candidate().selected() < needed()) return too_few();
    const auto candidate = metric_.value(this->candidate(), window_us);
    if (!candidate) return missing("this node does not know " + condition_.metric);
    std::optional<double> active;
    if (this->active()) active = metric_.value(*this->active(), window_us);
    if (condition_.relative && !active)
      return missing("nothing is known of the active one's " + condition_.metric);
    const double limit = condition_.limit * (condition_.relative ? *active : 1);
    return compared(*candidate, active, limit);
  }

 private:
  double needed() const {
    return static_cast<double>(gate().min_samples > 0 ? gate().min_samples : kMinSamples);
  }
  Judgement too_few() const {
    Judgement judgement =
        no_data(number_text(candidate().selected()) + " of " + number_text(needed()) + " samples");
    judgement.is_too_few = true;
    return judgement;
  }
  Judgement compared(double candidate, std::optional<double> active, double limit) const {
    Judgement judgement;
    const bool good = holds(condition_.comparison, candidate, limit);
    judgement.status = good ? GateStatus::passed : GateStatus::failed;
    judgement.text = condition_.metric + " " + text_of(candidate);
    if (active) judgement.text += ", the active one " + text_of(*active);
    judgement.text += ", " + expected_text(condition_);
    judgement.numbers = {{"candidate", candidate}, {"limit", condition_.limit}};
    if (active) judgement.numbers["active"] = *active;
    return judgement;
  }
  std::string text_of(double value) const {
    if (condition_.metric != "memory") return number_text(value);
    return base::human_bytes(static_cast<std::uint64_t>(value));
  }

  release::Condition condition_;
  const KernelMetric& metric_;
};

// --- what nobody needs to write

class HangGate : public KernelGate {
 public:
  using KernelGate::KernelGate;

 protected:
  // What waits in a queue from which nothing is taken never gets less.
  Judgement judge(std::int64_t) override {
    const Seen& seen = candidate();
    const bool takes_nothing = seen.least_waiting() > 0 && !seen.fell() && seen.accepted() <= 0;
    const bool is_full = seen.is_full() && !(active() && active()->is_full());
    Judgement judgement;
    judgement.status = takes_nothing || is_full ? GateStatus::failed : GateStatus::passed;
    judgement.text = text_of(takes_nothing, is_full);
    judgement.numbers = {{"candidate",
                          {{"waiting", seen.last().waiting},
                           {"least_waiting", seen.least_waiting()},
                           {"selected", seen.selected()}}}};
    return judgement;
  }

 private:
  std::string text_of(bool takes_nothing, bool is_full) const {
    const std::string waiting = std::to_string(candidate().last().waiting);
    if (takes_nothing) return waiting + " connections wait and none is accepted";
    if (is_full) return "its queue is full: " + waiting + " connections wait";
    return "at least " + std::to_string(candidate().least_waiting()) + " connections waited";
  }
};

class MemoryGate : public KernelGate {
 public:
  using KernelGate::KernelGate;

 protected:
  Judgement judge(std::int64_t) override {
    const auto ours = number(candidate().last().memory_bytes);
    if (!ours) return skipped("this node does not know memory");
    if (!active()) return skipped("there is no active one to compare with");
    const auto theirs = number(active()->last().memory_bytes);
    if (!theirs) return skipped("nothing is known of the active one's memory");
    Judgement judgement;
    const bool is_much = *ours > kMemoryTimes * *theirs && *ours > *theirs + kMemoryMore;
    judgement.status = is_much ? GateStatus::failed : GateStatus::passed;
    judgement.text = "memory " + base::human_bytes(static_cast<std::uint64_t>(*ours)) +
                     ", the active one " + base::human_bytes(static_cast<std::uint64_t>(*theirs)) +
                     ", expected <= " + number_text(kMemoryTimes) + " x active or " +
                     base::human_bytes(static_cast<std::uint64_t>(kMemoryMore)) + " more";
    judgement.numbers = {{"candidate", *ours}, {"active", *theirs}, {"limit", kMemoryTimes}};
    return judgement;
  }
};

}  // namespace

MadeGate make_kernel_gate(const release::Gate& gate, const Judging& judging) {
  if (!judging.setup.kernel) return make_skipped_gate("the kernel's figures are not asked for");
  if (gate.condition == kHangCondition)
    return std::unique_ptr<GateRun>(std::make_unique<HangGate>(gate));
  if (gate.condition == kMemoryCondition)
    return std::unique_ptr<GateRun>(std::make_unique<MemoryGate>(gate));
  UPD_ASSIGN(release::Condition condition, condition_of(gate));
  const KernelMetric* metric = metric_of(condition.metric);
  if (metric == nullptr)
    return base::Error(base::Code::manifest_invalid,
                       "the gate '" + gate.name + "' has a metric that the kernel does not know");
  if (condition.relative && !judging.setup.active)
    return make_skipped_gate("there is no active one to compare with");
  return std::unique_ptr<GateRun>(
      std::make_unique<ConditionGate>(gate, std::move(condition), *metric));
}

}  // namespace updagent::health
