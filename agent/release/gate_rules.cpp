#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "agent/base/text.hpp"
#include "agent/release/checks.hpp"
#include "agent/release/describe.hpp"
#include "agent/release/endpoints.hpp"
#include "agent/release/fields.hpp"
#include "agent/release/gate_condition.hpp"
#include "agent/release/rollout_rules.hpp"
#include "agent/release/rollout_words.hpp"
#include "agent/release/rules.hpp"

namespace updagent::release {
namespace {

using base::Error;
using base::ok;
using base::Status;

constexpr std::string_view kErrorRatio = "error_ratio";
constexpr std::string_view kRatio = "ratio";
constexpr std::string_view kAcceptedRatio = "accepted_ratio";
constexpr std::string_view kBucketSuffix = "_bucket";
// In the whole of a deployment, whose windows are half a second at least: more than a day has.
constexpr int kMaxFailuresInTotal = 1'000'000;
constexpr std::array<std::string_view, 4> kQueryNames = {"app", "generation", "version", "window"};

bool is_of_a_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}
bool begins_a_name(char c) {
  return is_of_a_name(c) && (c < '0' || c > '9');
}

// Calls with each NAME of a $NAME. "$1" is a group of label_replace, "$" alone an end of line.
template <class Visit>
Status each_name(std::string_view query, Visit visit) {
  for (std::size_t i = 0; i + 1 < query.size(); ++i) {
    if (query[i] != '$' || !begins_a_name(query[i + 1])) continue;
    const auto end = std::find_if_not(query.begin() + static_cast<std::ptrdiff_t>(i + 1),
                                      query.end(), is_of_a_name);
    UPD_TRY(visit(std::string_view(query.begin() + static_cast<std::ptrdiff_t>(i + 1), end)));
  }
  return ok();
}

class GateRules : Checks {
 public:
  GateRules(const Manifest& manifest, const Gate& gate, std::string at, const Dialect& dialect)
      : Checks(dialect), manifest_(manifest), gate_(gate), at_(std::move(at)) {}

  Status check() const {
    UPD_TRY(plain_name(place("name"), gate_.name));
    UPD_TRY(fits_strategy());
    UPD_TRY(target());
    UPD_TRY(number(place("failures"), gate_.failures, 1, kMaxInARow));
    UPD_TRY(number(place("max_failures"), gate_.max_failures, 0, kMaxFailuresInTotal));
    return times();
  }

 private:
  std::string place(std::string_view key) const { return place_of(at_, key); }

  Status fits_strategy() const {
    const bool is_of_a_process = gate_.type == GateType::kernel || gate_.type == GateType::probe;
    if (!is_of_a_process || runs_a_service(manifest_.strategy)) return ok();
    return wrong(place("type"),
                 "'exec', 'prometheus' or 'scrape' with strategy 'files', which starts no process",
                 in_quotes(gate_type_name(gate_.type)));
  }

  Status target() const {
    switch (gate_.type) {
      case GateType::probe:
        return known_probe();
      case GateType::exec:
        return argv(place("command"), gate_.command.argv);
      case GateType::scrape:
        return scrape();
      case GateType::prometheus:
        return prometheus();
      case GateType::kernel:
        return kernel();
    }
    return ok();
  }

  Status known_probe() const {
    std::vector<std::string> names;
    names.reserve(manifest_.probes.size());
    for (const Probe& probe : manifest_.probes) names.push_back(probe.name);
    if (std::find(names.begin(), names.end(), gate_.probe) != names.end()) return ok();
    Error error = wrong(place("probe"), "the name of one in " + in_quotes(dialect().probes),
                        in_quotes(gate_.probe));
    const auto near = base::nearest(gate_.probe, names);
    return near ? std::move(error).hint("did you mean '" + *near + "'?") : error;
  }

  base::Result<Condition> condition() const {
    UPD_ASSIGN(Condition condition,
               parse_condition(gate_.condition, gate_.type, place("condition"), dialect().code));
    if (condition.relative && manifest_.strategy != kStrategyHandoff)
      return wrong(place("condition"),
                   "no 'x active' with strategy " + in_quotes(manifest_.strategy) +
                       ", where nothing serves beside the new release",
                   in_quotes(gate_.condition));
    return condition;
  }

  Status url(bool with_query) const {
    UPD_TRY(text(place("url"), gate_.url));
    if (!is_probe_url(gate_.url))
      return wrong(place("url"), "http://HOST[:PORT]/... or https://..., no credentials",
                   in_quotes(gate_.url));
    if (with_query || gate_.url.find_first_of("?#") == std::string::npos) return ok();
    return wrong(place("url"), "the address of the server alone, without '?' and '#'",
                 in_quotes(gate_.url));
  }

  Status samples() const {
    return number(place("min_samples"), gate_.min_samples, 0, kMaxMinSamples);
  }

  Status scrape() const {
    UPD_TRY(url(true));
    UPD_ASSIGN(const Condition condition, this->condition());
    UPD_TRY(selector("requests", gate_.requests, condition, condition.metric == kErrorRatio));
    UPD_TRY(selector("errors", gate_.errors, condition, condition.metric == kErrorRatio));
    UPD_TRY(
        selector("latency", gate_.latency, condition, quantile_of(condition.metric).has_value()));
    for (const auto& [key, text] :
         {std::pair("numerator", &gate_.numerator), {"denominator", &gate_.denominator}}) {
      UPD_TRY(selector(key, *text, condition, condition.metric == kRatio));
      if (condition.metric == kRatio && text->empty())
        return Error(dialect().code, place(key) + " is missing")
            .expected("a counter's selector, of which the condition wants the ratio")
            .got("none");
    }
    return samples();
  }

  Status selector(std::string_view key, const std::string& text, const Condition& condition,
                  bool is_wanted) const {
    if (text.empty()) return ok();
    if (!is_wanted)
      return wrong(place(key), "no such key with a condition on " + in_quotes(condition.metric),
                   in_quotes(text));
    UPD_TRY(this->text(place(key), text));
    UPD_ASSIGN(const MetricSelector parsed,
               parse_metric_selector(text, place(key), dialect().code));
    if (key != "latency" || !parsed.name.ends_with(kBucketSuffix)) return ok();
    return wrong(place(key), "the name of the histogram, without " + in_quotes(kBucketSuffix),
                 in_quotes(text));
  }

  Status prometheus() const {
    UPD_TRY(url(false));
    UPD_TRY(text(place("query"), gate_.query));
    if (gate_.query.empty()) return wrong(place("query"), "a PromQL query", "''");
    bool tells_sides_apart = false;
    UPD_TRY(each_name(gate_.query, [&](std::string_view name) {
      tells_sides_apart = tells_sides_apart || name == "version" || name == "generation";
      return query_name(name);
    }));
    UPD_ASSIGN(const Condition condition, this->condition());
    if (!condition.relative || tells_sides_apart) return ok();
    return wrong(place("query"),
                 "$version or $generation in it, for a condition beside the active generation",
                 in_quotes(gate_.query));
  }

  Status query_name(std::string_view name) const {
    if (std::find(kQueryNames.begin(), kQueryNames.end(), name) != kQueryNames.end()) return ok();
    const std::vector<std::string> names(kQueryNames.begin(), kQueryNames.end());
    Error error = wrong(place("query"), "only $app, $generation, $version and $window",
                        in_quotes("$" + std::string(name)));
    const auto near = base::nearest(name, names);
    return near ? std::move(error).hint("did you mean '$" + *near + "'?") : error;
  }

  Status kernel() const {
    UPD_ASSIGN(const Condition condition, this->condition());
    if (gate_.min_samples != 0 && condition.metric != kAcceptedRatio)
      return wrong(place("min_samples"), "no such key but for 'accepted_ratio'",
                   std::to_string(gate_.min_samples));
    return samples();
  }

  Status times() const {
    const bool is_exec = gate_.type == GateType::exec;
    if (gate_.type != GateType::probe)
      UPD_TRY(span(place(span_key(is_exec ? "interval" : "window")), gate_.window,
                   is_exec ? kShortestSpan : kShortestWindow));
    UPD_TRY(span(place(span_key("timeout")), gate_.timeout, kShortestSpan));
    return span(place(span_key("no_data_timeout")), gate_.no_data_timeout, kShortestSpan);
  }

  const Manifest& manifest_;
  const Gate& gate_;
  std::string at_;
};

class GateList : Checks {
 public:
  using Checks::Checks;

  Status check(const Manifest& manifest) const {
    const std::string list(dialect().gates);
    const std::vector<Gate>& gates = manifest.gates;
    if (gates.size() > kMaxGates)
      return wrong(list, "at most " + std::to_string(kMaxGates) + " gates",
                   std::to_string(gates.size()));
    for (std::size_t i = 0; i < gates.size(); ++i) {
      UPD_TRY(GateRules(manifest, gates[i], place_of(list, i), dialect()).check());
      for (std::size_t j = 0; j < i; ++j)
        if (gates[j].name == gates[i].name)
          return wrong(place_of(list, i) + ".name", "a name of its own", in_quotes(gates[i].name));
    }
    return ok();
  }
};

}  // namespace

Status check_gates(const Manifest& manifest, const Dialect& dialect) {
  return GateList(dialect).check(manifest);
}

}  // namespace updagent::release
