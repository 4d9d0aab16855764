// An instant query on a server, with the words of each side filled in, at the end of each window.
#include <array>
#include <cmath>

#include "agent/health/gate_run.hpp"
#include "agent/health/prometheus_answer.hpp"

namespace updagent::health {
namespace {

class AnswerText : public PageSink {
 public:
  base::Status take(std::string_view bytes) override {
    if (text_.size() + bytes.size() > kMaxAnswerBytes)
      return base::Error(base::Code::probe_failed,
                         "the server's answer is too large for one number");
    text_.append(bytes);
    return base::ok();
  }
  base::Status end(std::string_view) override { return base::ok(); }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

struct CurlFree {
  void operator()(char* text) const { curl_free(text); }
};

// The server gives up when we do.
std::string query_url(const release::Gate& gate, const std::string& query) {
  const std::unique_ptr<char, CurlFree> escaped(
      curl_easy_escape(nullptr, query.c_str(), static_cast<int>(query.size())));
  std::string url = gate.url;
  while (url.ends_with('/')) url.pop_back();
  return url + "/api/v1/query?query=" + (escaped ? escaped.get() : "") +
         "&timeout=" + base::format_duration(gate.timeout);
}

class PrometheusGate : public GateRun {
 public:
  PrometheusGate(const release::Gate& gate, release::Condition condition, const Judging& judging)
      : gate_(gate),
        condition_(std::move(condition)),
        app_(judging.setup.app),
        question_(judging.loop, query_of(kCandidate, judging.setup.candidate, judging.unsteered),
                  false) {
    if (judging.setup.active)
      question_.add_active(query_of(kActive, *judging.setup.active, judging.unsteered), false);
  }

  std::vector<std::size_t> questions() const override { return question_.indexes(); }
  std::optional<Judgement> begin() override {
    question_.ask_in(gate_.window);
    return std::nullopt;
  }
  std::optional<Judgement> hear(QuestionLoop::Answer&& answer) override {
    if (!question_.hear(std::move(answer))) return std::nullopt;
    Judgement judgement = judge();
    judgement.numbers["window_ms"] = gate_.window.count();
    judgement.numbers["limit"] = condition_.limit;
    const bool is_over = judgement.status != GateStatus::no_data;
    question_.ask_in(is_over ? gate_.window : look_again(gate_));
    return judgement;
  }

 private:
  QuestionLoop::Start query_of(SideIndex index, const Side& side, const ProbeContext& context) {
    const std::string query =
        fill_query(gate_.query, {app_, side.version, side.generation, gate_.window});
    return [this, index, url = query_url(gate_, query), &context](CURLM* multi) {
      texts_[index] = std::make_shared<AnswerText>();
      const Page page{.url = url, .timeout = gate_.timeout, .reads_refusals = true};
      return start_page(page, texts_[index], context, multi);
    };
  }

  base::Result<double> value(SideIndex side) const {
    const std::string& text = texts_[side]->text();
    if (question_.is_good(side)) return value_of_answer(text);
    std::string problem = question_.finding(side)->problem;
    if (const std::string why = error_of_answer(text); !why.empty()) problem += ": " + why;
    return base::Error(base::Code::not_found, problem);
  }

  // Any multiple of infinity is enough.
  base::Result<double> value_to_compare_with() const {
    UPD_ASSIGN(const double active, value(kActive));
    if (std::isfinite(active)) return active;
    return base::Error(base::Code::not_found, "the query's value is infinite");
  }

  Judgement judge() {
    const auto candidate = value(kCandidate);
    if (!candidate) return no_data(candidate.error().line());
    Judgement judgement;
    judgement.numbers["candidate"] = *candidate;
    std::string text = "value " + number_text(*candidate);
    double limit = condition_.limit;
    if (condition_.relative) {
      const auto active = value_to_compare_with();
      if (active) last_active_ = *active;
      if (!last_active_) return no_data("of the active one: " + active.error().line());
      limit *= *last_active_;
      judgement.numbers["active"] = *last_active_;
      judgement.numbers["baseline"] = active ? "window" : "earlier window";
      text += ", the active one " + number_text(*last_active_);
    }
    const bool good = holds(condition_.comparison, *candidate, limit);
    judgement.status = good ? GateStatus::passed : GateStatus::failed;
    judgement.text = text + ", " + expected_text(condition_);
    return judgement;
  }

  const release::Gate& gate_;
  release::Condition condition_;
  const std::string& app_;
  std::array<std::shared_ptr<AnswerText>, kSides> texts_;
  PairedQuestion question_;
  std::optional<double> last_active_;
};

}  // namespace

MadeGate make_prometheus_gate(const release::Gate& gate, const Judging& judging) {
  UPD_ASSIGN(release::Condition condition, condition_of(gate));
  if (condition.relative && !judging.setup.active)
    return make_skipped_gate("there is no active one to compare with");
  return std::unique_ptr<GateRun>(
      std::make_unique<PrometheusGate>(gate, std::move(condition), judging));
}

}  // namespace updagent::health
