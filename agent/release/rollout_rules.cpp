#include "agent/release/rollout_rules.hpp"

#include <algorithm>
#include <string>

#include "agent/release/checks.hpp"
#include "agent/release/describe.hpp"
#include "agent/release/fields.hpp"
#include "agent/release/listen_address.hpp"

namespace updagent::release {
namespace {

using base::Error;
using base::Milliseconds;
using base::ok;
using base::Status;

constexpr int kAllConnections = 100;           // percent
constexpr std::size_t kMaxTargetBytes = 4096;  // what servers take of a request line at least

class RolloutRules : Checks {
 public:
  RolloutRules(const Manifest& manifest, const Dialect& dialect)
      : Checks(dialect), manifest_(manifest), rollout_(manifest.rollout) {}

  Status rollout() const {
    UPD_TRY(span("rollout." + span_key("watch"), rollout_.watch, Milliseconds(0)));
    UPD_TRY(span("rollout." + span_key("step_patience"), rollout_.step_patience, Milliseconds(0)));
    Rollout watch_alone;
    watch_alone.watch = rollout_.watch;
    if (!is_handoff() && rollout_ != watch_alone)
      return wrong("rollout",
                   "only " + in_quotes(span_key("watch")) + " with strategy " +
                       in_quotes(manifest_.strategy),
                   "more");
    return steps();
  }

  Status preflight() const {
    const Preflight& preflight = manifest_.preflight;
    if (!is_handoff() && (preflight.warmup || !preflight.smoke.empty()))
      return Error(dialect().code, "preflight belongs to the strategy 'handoff'")
          .expected("no such section with strategy " + in_quotes(manifest_.strategy) +
                    ", which has nothing to try out beside what serves")
          .got("one");
    if (preflight.warmup) UPD_TRY(warmup(*preflight.warmup));
    return smoke(preflight.smoke);
  }

 private:
  bool is_handoff() const { return manifest_.strategy == kStrategyHandoff; }

  Status steps() const {
    const std::string list = "rollout.steps";
    if (rollout_.steps.size() > kMaxRolloutSteps)
      return wrong(list, "at most " + std::to_string(kMaxRolloutSteps) + " steps",
                   std::to_string(rollout_.steps.size()));
    int before = 0;
    for (std::size_t i = 0; i < rollout_.steps.size(); ++i) {
      UPD_TRY(step(place_of(list, i), rollout_.steps[i], before));
      before = rollout_.steps[i].percent;
    }
    if (rollout_.steps.empty() || before == kAllConnections) return ok();
    return wrong(list, "100 as the last step", std::to_string(before));
  }

  Status step(const std::string& at, const Step& step, int before) const {
    UPD_TRY(number(at + ".percent", step.percent, 1, kAllConnections));
    if (step.percent <= before)
      return wrong(at + ".percent", "more than the step before it has, " + std::to_string(before),
                   std::to_string(step.percent));
    UPD_TRY(span(at + '.' + span_key("duration"), step.duration, Milliseconds(0)));
    return number(at + ".min_connections", step.min_connections, 0, kMaxStepConnections);
  }

  Status warmup(const Warmup& warmup) const {
    const std::string at = "preflight.warmup";
    if (warmup.paths.empty() || warmup.paths.size() > kMaxWarmupPaths)
      return wrong(at + ".paths", "1 to " + std::to_string(kMaxWarmupPaths) + " paths",
                   std::to_string(warmup.paths.size()));
    for (std::size_t i = 0; i < warmup.paths.size(); ++i)
      UPD_TRY(request_target(place_of(at + ".paths", i), warmup.paths[i]));
    UPD_TRY(number(at + ".count", warmup.count, 1, kMaxWarmupCount));
    UPD_TRY(span(at + '.' + span_key("timeout"), warmup.timeout, kShortestSpan));
    return warmup_listener(at + ".listener", warmup.listener);
  }

  // As it stands in the request line (RFC 9112, 3.2.1): what is not ASCII is %-encoded.
  Status request_target(const std::string& at, const std::string& path) const {
    const bool is_visible = std::all_of(path.begin(), path.end(), [](char c) {
      return static_cast<unsigned char>(c) > 0x20 && static_cast<unsigned char>(c) < 0x7F;
    });
    if (path.starts_with('/') && path.size() <= kMaxTargetBytes && is_visible &&
        path.find('#') == std::string::npos)
      return ok();
    return wrong(at,
                 "a path that begins with '/', at most " + std::to_string(kMaxTargetBytes) +
                     " visible ASCII characters without '#'",
                 in_quotes(path));
  }

  Status warmup_listener(const std::string& at, const std::string& name) const {
    const std::vector<Listener>& all = manifest_.service->listeners;  // of a handoff: checked
    const auto fits = [&](const Listener& one) {
      const auto address = parse_listen_address(one.address, at, dialect().code);
      return address && address->kind == AddressKind::tcp && (name.empty() || one.name == name);
    };
    if (std::any_of(all.begin(), all.end(), fits)) return ok();
    return wrong(at, "the name of a tcp listener",
                 name.empty() ? "no such listener" : in_quotes(name));
  }

  Status smoke(const std::vector<Command>& commands) const {
    const std::string list = "preflight.smoke";
    if (commands.size() > kMaxSmokeCommands)
      return wrong(list, "at most " + std::to_string(kMaxSmokeCommands) + " commands",
                   std::to_string(commands.size()));
    for (std::size_t i = 0; i < commands.size(); ++i) {
      const std::string at = place_of(list, i);
      UPD_TRY(argv(at + ".command", commands[i].argv));
      UPD_TRY(span(at + '.' + span_key("timeout"), commands[i].timeout, kShortestSpan));
    }
    return ok();
  }

  const Manifest& manifest_;
  const Rollout& rollout_;
};

}  // namespace

Status check_rollout(const Manifest& manifest, const Dialect& dialect) {
  return RolloutRules(manifest, dialect).rollout();
}

Status check_preflight(const Manifest& manifest, const Dialect& dialect) {
  return RolloutRules(manifest, dialect).preflight();
}

}  // namespace updagent::release
