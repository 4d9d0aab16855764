#include "tests/handoff/load/tally.hpp"

#include <nlohmann/json.hpp>
#include <utility>

namespace load {
namespace {

constexpr std::size_t kMaxDetails = 64;  // kinds of failure; what comes after them is only counted

Json outcomes_json(const Counts& counts) {
  Json all = Json::object();
  for (std::size_t i = 0; i < kOutcomes; ++i)
    all[std::string(name_of(static_cast<Outcome>(i)))] = counts.outcomes[i];
  return all;
}

Json summary(const Histogram& histogram) {
  return {{"count", histogram.total()},     {"p50_us", histogram.at(0.5)},
          {"p90_us", histogram.at(0.9)},    {"p99_us", histogram.at(0.99)},
          {"p999_us", histogram.at(0.999)}, {"max_us", histogram.max()}};
}

Json idle_json(const Counts& counts) {
  return {{"eof", counts.idle_eof}, {"reset", counts.idle_reset}, {"data", counts.idle_data}};
}

}  // namespace

std::string_view name_of(Outcome outcome) {
  switch (outcome) {
    case Outcome::ok:
      return "ok";
    case Outcome::refused:
      return "refused";
    case Outcome::reset:
      return "reset";
    case Outcome::eof:
      return "eof";
    case Outcome::cut:
      return "cut";
    case Outcome::timeout:
      return "timeout";
    case Outcome::wrong_status:
      return "wrong_status";
    case Outcome::wrong_body:
      return "wrong_body";
    case Outcome::wrong_generation:
      return "wrong_generation";
    case Outcome::other:
      return "other";
    case Outcome::keepalive_race:
      return "keepalive_race";
    case Outcome::unfinished:
      return "unfinished";
  }
  return "?";
}

bool is_failure(Outcome outcome) {
  return outcome != Outcome::ok && outcome != Outcome::keepalive_race &&
         outcome != Outcome::unfinished;
}

Tally::WindowId Tally::open_request() {
  ++totals_.requests;
  ++open_requests_;
  ++windows_.back().begun;
  ++windows_.back().open;
  return first_window_ + windows_.size() - 1;
}

void Tally::close_request(WindowId id) {
  --open_requests_;
  --window(id).open;
}

void Tally::forget_request(WindowId id) {
  close_request(id);
  --window(id).begun;
  --totals_.requests;
  ++totals_.not_begun;
}

void Tally::attempt(WindowId id, Outcome outcome, const std::string& generation) {
  for (Counts* counts : {&window(id).counts, &counts_}) {
    ++counts->of(outcome);
    if (!generation.empty()) ++counts->generations[generation];
  }
}

void Tally::latency(WindowId id, std::int64_t us) {
  window(id).counts.latency.record(us);
  counts_.latency.record(us);
}

void Tally::detail(const std::string& key) {
  const bool room = totals_.details.size() < kMaxDetails || totals_.details.contains(key);
  ++totals_.details[room ? key : "more"];
}

void Tally::idle_end(std::uint64_t Counts::* how) {
  ++(windows_.back().counts.*how);
  ++(counts_.*how);
}

void Tally::begin_window(std::int64_t now_us) {
  if (!windows_.empty()) windows_.back().to_us = now_us;
  windows_.emplace_back();
  windows_.back().from_us = now_us;
}

bool Tally::take_window(bool all, std::int64_t now_us, Json& json) {
  if (windows_.empty()) return false;
  Window& oldest = windows_.front();
  if (!all && (oldest.to_us == 0 || oldest.open > 0)) return false;
  Json latency = Json::array();
  for (const auto& [us, count] : oldest.counts.latency.counts()) latency.push_back({us, count});
  json = {{"event", "window"},
          {"flow", flow_},
          {"from_ns", oldest.from_us * 1000},
          {"to_ns", (oldest.to_us == 0 ? now_us : oldest.to_us) * 1000},
          {"begun", oldest.begun},
          {"classes", outcomes_json(oldest.counts)},
          {"generations", oldest.counts.generations},
          {"idle", idle_json(oldest.counts)},
          {"max_us", oldest.counts.latency.max()},
          {"latency", std::move(latency)}};
  windows_.pop_front();
  ++first_window_;
  return true;
}

Json Tally::result() {
  std::uint64_t failed = 0;
  std::uint64_t attempts = 0;
  for (std::size_t i = 0; i < kOutcomes; ++i) {
    attempts += counts_.outcomes[i];
    if (is_failure(static_cast<Outcome>(i))) failed += counts_.outcomes[i];
  }
  return {{"requests", totals_.requests},
          {"not_begun", totals_.not_begun},
          {"attempts", attempts},
          {"failed", failed},
          {"classes", outcomes_json(counts_)},
          {"details", totals_.details},
          {"generations", counts_.generations},
          {"connections", totals_.connections},
          {"announced_close", totals_.announced_close},
          {"not_closed", totals_.not_closed},
          {"idle", idle_json(counts_)},
          {"retried", totals_.retried},
          {"race_max_us", totals_.race_max_us},
          {"bytes", totals_.bytes},
          {"gap_max_us", totals_.gap_max_us},
          {"late_max_us", totals_.late_max_us},
          {"latency", summary(counts_.latency)},
          {"first_byte", summary(totals_.first_byte)},
          {"connect", summary(totals_.connect)}};
}

}  // namespace load
