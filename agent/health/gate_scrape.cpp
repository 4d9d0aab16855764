// The page of metrics of both sides, at the beginning and at the end of each window.
#include <algorithm>
#include <array>
#include <cmath>

#include "agent/base/text.hpp"
#include "agent/health/gate_run.hpp"
#include "agent/health/metrics_page.hpp"
#include "agent/health/statistics.hpp"

namespace updagent::health {
namespace {

constexpr const char* kAccept =
    "text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.9,*/*;q=0.1";

// Of our own questions those that are under way at both ends of a window may count in the next one,
// or not yet.
constexpr double kUnderWay = 2 * kMaxSteered;

constexpr const char* kFell =
    "a counter fell: its process was started anew, or several answer, each for itself";

// What the candidate is compared with.
struct Baseline {
  Counted counted;
  const char* from = "window";  // "earlier window", "lifetime"
};

class ScrapeGate : public GateRun {
 public:
  ScrapeGate(const release::Gate& gate, release::Condition condition, WantedMetrics wanted,
             const Judging& judging)
      : gate_(gate),
        condition_(std::move(condition)),
        quantile_(release::quantile_of(condition_.metric)),
        wanted_(std::make_shared<const WantedMetrics>(std::move(wanted))),
        own_(judging.own),
        question_(judging.loop, page_of(kCandidate, judging.candidate),
                  static_cast<bool>(judging.candidate.steer)) {
    if (judging.active != nullptr)
      question_.add_active(page_of(kActive, *judging.active),
                           static_cast<bool>(judging.active->steer));
  }

  std::vector<std::size_t> questions() const override { return question_.indexes(); }
  std::optional<Judgement> begin() override;
  std::optional<Judgement> hear(QuestionLoop::Answer&& answer) override;

 private:
  using Pages = std::array<std::optional<MetricsPage>, kSides>;

  QuestionLoop::Start page_of(SideIndex side, const ProbeContext& context);
  Pages take_pages();
  void begin_window(Pages pages);
  Judgement judge(const Counted& candidate, const Pages& pages);
  std::optional<std::string> missing(const Pages& pages) const;
  Judgement judge_alone(const Counted& candidate) const;
  Judgement judge_beside(const Counted& candidate, const Baseline& baseline) const;
  Judgement judge_ratio_beside(const Counted& candidate, const Baseline& baseline) const;
  Judgement judge_quantile_beside(const Counted& candidate, const Baseline& baseline) const;
  std::optional<Baseline> baseline(const Pages& pages);
  std::string no_baseline(const Pages& pages) const;
  std::int64_t needed() const;
  double samples(SideIndex side, const Counted& counted);
  Judgement too_few(double samples, const Counted& candidate) const;
  base::Json numbers_of(const Counted& counted) const;
  Judgement verdict(bool good, const std::string& what) const;
  bool more_could_change_it(bool good) const;
  Judgement past_bounds(const std::string& whose, const Quantile& value) const;

  const release::Gate& gate_;
  release::Condition condition_;
  std::optional<double> quantile_;
  std::shared_ptr<const WantedMetrics> wanted_;
  std::array<std::shared_ptr<PageReader>, kSides> readers_;  // of the pages that are under way
  OwnRequests& own_;
  OwnRequests own_before_page_;                       // the page that was asked for last
  OwnRequests own_before_window_;                     // the page at the beginning of this window
  std::array<bool, kSides> counts_ours_{true, true};  // until it turns out that it can't
  PairedQuestion question_;
  std::optional<Pages> before_;  // the pages at the beginning of this window, once they are there
  std::int64_t began_us_ = 0;
  std::optional<Counted> last_window_;  // of the active side, with enough samples
  std::optional<Counted> lifetime_;     // of the active side
};

QuestionLoop::Start ScrapeGate::page_of(SideIndex side, const ProbeContext& context) {
  return [this, side, &context](CURLM* multi) {
    readers_[side] = std::make_shared<PageReader>(wanted_);
    own_before_page_.asked[side] = own_.asked[side]++;
    const Page page{.url = gate_.url, .accept = kAccept, .timeout = gate_.timeout};
    return start_page(page, readers_[side], context, multi);
  };
}

std::optional<Judgement> ScrapeGate::begin() {
  before_.reset();
  question_.ask_in(base::Milliseconds(0));
  return std::nullopt;
}

std::optional<Judgement> ScrapeGate::hear(QuestionLoop::Answer&& answer) {
  if (!question_.hear(std::move(answer))) return std::nullopt;
  Pages pages = take_pages();
  if (!pages[kCandidate]) {
    Judgement judgement = no_data("the page of metrics: " + question_.finding(kCandidate)->problem);
    question_.ask_in(look_again(gate_));
    return judgement;
  }
  if (!before_) {
    begin_window(std::move(pages));
    return std::nullopt;
  }
  const Counted candidate = counted(*(*before_)[kCandidate], *pages[kCandidate]);
  Judgement judgement = judge(candidate, pages);
  if (judgement.status == GateStatus::no_data && !candidate.fell) {
    question_.ask_in(look_again(gate_));  // the same window goes on
  } else {
    begin_window(std::move(pages));
  }
  return judgement;
}

ScrapeGate::Pages ScrapeGate::take_pages() {
  Pages pages;
  for (const SideIndex side : {kCandidate, kActive})
    if (question_.is_good(side)) pages[side] = readers_[side]->take_page();
  if (pages[kActive]) lifetime_ = counted(*pages[kActive]);
  return pages;
}

void ScrapeGate::begin_window(Pages pages) {
  before_ = std::move(pages);
  own_before_window_ = own_before_page_;
  began_us_ = base::monotonic_now_us();
  question_.ask_in(gate_.window);
}

Judgement ScrapeGate::judge(const Counted& candidate, const Pages& pages) {
  const double samples = candidate.fell ? 0 : this->samples(kCandidate, candidate);
  const std::optional<Baseline> baseline = this->baseline(pages);
  Judgement judgement;
  if (const auto why = missing(pages)) {
    judgement = no_data(*why);
  } else if (candidate.fell) {
    judgement = no_data(kFell);
    judgement.is_too_few = true;
  } else if (samples < static_cast<double>(needed())) {
    judgement = too_few(samples, candidate);
  } else if (!condition_.relative) {
    judgement = judge_alone(candidate);
  } else if (!baseline) {
    judgement = no_data(no_baseline(pages));
  } else {
    judgement = judge_beside(candidate, *baseline);
  }
  judgement.numbers["candidate"] = numbers_of(candidate);
  judgement.numbers["window_ms"] = (base::monotonic_now_us() - began_us_) / 1000;
  judgement.numbers["limit"] = condition_.limit;
  if (baseline) {
    judgement.numbers["active"] = numbers_of(baseline->counted);
    judgement.numbers["baseline"] = baseline->from;
  }
  return judgement;
}

// "http_requests_total with the label code"
std::string errors_text(const MetricMatch& errors) {
  const std::vector<std::string> labels = errors.labels();
  if (labels.empty()) return errors.name();
  return errors.name() + (labels.size() == 1 ? " with the label " : " with the labels ") +
         base::join(labels, ", ");
}

// Why the candidate's page says nothing.
std::optional<std::string> ScrapeGate::missing(const Pages& pages) const {
  const MetricsPage& page = *pages[kCandidate];
  if (quantile_) {
    if (!page.latency.empty()) return std::nullopt;
    return "the page has no series of " + wanted_->latency->name();
  }
  if (page.whole.empty()) return "the page has no series of " + wanted_->whole->name();
  const auto has_part = [](const std::optional<MetricsPage>& one) { return one && one->has_part; };
  if (has_part(pages[kCandidate]) || has_part(pages[kActive])) return std::nullopt;
  if (wanted_->part) return "no page has " + errors_text(*wanted_->part) + ", not even with 0";
  return wanted_->whole->name() +
         " has no label code, status or status_code with a status of HTTP: name what failed with "
         "'errors'";
}

std::optional<Baseline> ScrapeGate::baseline(const Pages& pages) {
  const auto enough = static_cast<double>(needed());
  if (pages[kActive] && (*before_)[kActive]) {
    Counted window = counted(*(*before_)[kActive], *pages[kActive]);
    if (!window.fell && samples(kActive, window) >= enough) {
      last_window_ = window;
      return Baseline{std::move(window), "window"};
    }
  }
  if (last_window_) return Baseline{*last_window_, "earlier window"};
  if (lifetime_ && lifetime_->whole >= enough) return Baseline{*lifetime_, "lifetime"};
  return std::nullopt;
}

std::string ScrapeGate::no_baseline(const Pages& pages) const {
  if (!lifetime_ && !pages[kActive])
    return "the page of metrics of the active one: " + question_.finding(kActive)->problem;
  return "the active one has " + number_text(lifetime_ ? lifetime_->whole : 0) + " of " +
         std::to_string(needed()) + " samples in all its life";
}

std::int64_t ScrapeGate::needed() const {
  if (gate_.min_samples > 0) return gate_.min_samples;
  if (!quantile_) return kMinSamples;
  const double beyond = static_cast<double>(kMinBeyondQuantile) / (1 - *quantile_);
  // p99 are 500, whatever 1 - 0.99 is to a computer
  return std::max(kMinSamples, static_cast<std::int64_t>(std::ceil(beyond - 1e-6)));
}

// In this window, of users. A server that counted less than we have asked does not count ours.
double ScrapeGate::samples(SideIndex side, const Counted& counted) {
  if (!wanted_->may_count_ours) return counted.whole;
  const auto ours = static_cast<double>(own_.asked[side] - own_before_window_.asked[side]);
  counts_ours_[side] = counts_ours_[side] && counted.whole + kUnderWay >= ours;
  return counts_ours_[side] ? std::max(0.0, counted.whole - ours) : counted.whole;
}

Judgement ScrapeGate::too_few(double samples, const Counted& candidate) const {
  std::string text = number_text(samples) + " of " + std::to_string(needed()) + " samples";
  if (samples < candidate.whole) text += ", without what may be our own questions";
  Judgement judgement = no_data(std::move(text));
  judgement.is_too_few = true;
  return judgement;
}

base::Json ScrapeGate::numbers_of(const Counted& counted) const {
  if (quantile_) {
    base::Json numbers = {{"samples", std::llround(counted.whole)}};
    if (const auto value = quantile(*quantile_, counted.latency))
      numbers["quantile"] = value->value;
    return numbers;
  }
  const char* part = condition_.metric == "ratio" ? "numerator" : "errors";
  const char* whole = condition_.metric == "ratio" ? "denominator" : "requests";
  base::Json numbers = {{part, std::llround(counted.part)}, {whole, std::llround(counted.whole)}};
  if (counted.whole > 0) numbers["ratio"] = counted.part / counted.whole;
  return numbers;
}

Judgement ScrapeGate::verdict(bool good, const std::string& what) const {
  Judgement judgement;
  judgement.status = good ? GateStatus::passed : GateStatus::failed;
  judgement.text = condition_.metric + " " + what + ", " + expected_text(condition_);
  return judgement;
}

std::string of_text(const Counted& counted) {
  return number_text(counted.part / counted.whole) + " (" + number_text(counted.part) + " of " +
         number_text(counted.whole) + ")";
}

std::string quantile_text(const Quantile& quantile) {
  return (quantile.at_least ? "at least " : "") + number_text(quantile.value) + " s";
}

// What is only known to be that or more may be past any limit.
bool ScrapeGate::more_could_change_it(bool good) const {
  return good == is_upper(condition_.comparison);
}

Judgement ScrapeGate::past_bounds(const std::string& whose, const Quantile& value) const {
  return no_data(whose + condition_.metric + " is past the highest bound of the histogram, " +
                 number_text(value.value) + " s");
}

Judgement ScrapeGate::judge_alone(const Counted& candidate) const {
  if (!quantile_) {
    const double ratio = candidate.part / candidate.whole;
    return verdict(holds(condition_.comparison, ratio, condition_.limit), of_text(candidate));
  }
  const auto value = quantile(*quantile_, candidate.latency);
  if (!value) return no_data("the histogram has no buckets to interpolate between");
  const bool good = holds(condition_.comparison, value->value, condition_.limit);
  if (more_could_change_it(good) && value->at_least) return past_bounds("", *value);
  return verdict(good, quantile_text(*value) + " (of " + number_text(candidate.whole) + ")");
}

Judgement ScrapeGate::judge_beside(const Counted& candidate, const Baseline& baseline) const {
  return quantile_ ? judge_quantile_beside(candidate, baseline)
                   : judge_ratio_beside(candidate, baseline);
}

Judgement ScrapeGate::judge_ratio_beside(const Counted& candidate, const Baseline& baseline) const {
  const Rate ours{std::llround(candidate.part), candidate.whole};
  const Rate theirs{std::llround(baseline.counted.part), baseline.counted.whole};
  const double p_value = is_upper(condition_.comparison)
                             ? p_value_above(ours, theirs, condition_.limit)
                             : p_value_below(ours, theirs, condition_.limit);
  Judgement judgement =
      verdict(p_value >= kAlpha, of_text(candidate) + ", the active one " +
                                     of_text(baseline.counted) + ", p " + number_text(p_value));
  judgement.numbers["p_value"] = p_value;
  return judgement;
}

Judgement ScrapeGate::judge_quantile_beside(const Counted& candidate,
                                            const Baseline& baseline) const {
  const auto ours = quantile(*quantile_, candidate.latency);
  const auto theirs = quantile(*quantile_, baseline.counted.latency);
  if (!ours || !theirs) return no_data("the histogram has no buckets to interpolate between");
  const bool good = holds(condition_.comparison, ours->value, condition_.limit * theirs->value);
  const bool ours_decides = more_could_change_it(good);
  if (ours_decides && ours->at_least) return past_bounds("", *ours);
  // the more the active one has, the more is allowed, or asked for
  if (!ours_decides && theirs->at_least) return past_bounds("the active one's ", *theirs);
  return verdict(good, quantile_text(*ours) + ", the active one " + quantile_text(*theirs));
}

}  // namespace

MadeGate make_scrape_gate(const release::Gate& gate, const Judging& judging) {
  UPD_ASSIGN(release::Condition condition, condition_of(gate));
  UPD_ASSIGN(WantedMetrics wanted, wanted_metrics(gate, condition));
  if (condition.relative && judging.active == nullptr)
    return make_skipped_gate("there is no active one to compare with");
  return std::unique_ptr<GateRun>(
      std::make_unique<ScrapeGate>(gate, std::move(condition), std::move(wanted), judging));
}

}  // namespace updagent::health
