#include "agent/release/rollout_reader.hpp"

#include <array>
#include <span>
#include <string>

#include "agent/release/describe.hpp"
#include "agent/release/rollout_words.hpp"
#include "agent/release/service.hpp"

namespace updagent::release {
namespace {

using base::Error;
using base::Json;
using base::Milliseconds;
using base::ok;
using base::Status;

constexpr Key kSpecRollout[] = {{"affinity"},      {"min_connections"}, {"standby"},
                                {"step_duration"}, {"step_patience"},   {"steps"},
                                {"watch"}};
constexpr Key kManifestRollout[] = {
    {"affinity"}, {"standby"}, {"step_patience_ms"}, {"steps"}, {"watch_ms", true}};
constexpr Key kSpecStep[] = {{"percent", true}, {"duration"}, {"min_connections"}};
constexpr Key kManifestStep[] = {{"duration_ms", true}, {"min_connections"}, {"percent", true}};
constexpr Key kPreflight[] = {{"smoke"}, {"warmup"}};
constexpr Key kSpecWarmup[] = {{"paths", true}, {"count"}, {"listener"}, {"timeout"}};
constexpr Key kManifestWarmup[] = {
    {"count", true}, {"listener"}, {"paths", true}, {"timeout_ms", true}};
constexpr Key kSpecSmoke[] = {{"command", true}, {"timeout"}};
constexpr Key kManifestSmoke[] = {{"command", true}, {"timeout_ms", true}};
// Mean nothing without steps.
constexpr std::array<std::string_view, 3> kOfSteps = {"step_duration", "min_connections",
                                                      "step_patience"};

class RolloutReader {
 public:
  explicit RolloutReader(const Dialect& dialect) : dialect_(dialect) {}

  Status rollout(const Fields& fields, std::string_view strategy, Rollout& into) const {
    UPD_TRY(fields.allow(dialect_.is_for_people ? std::span<const Key>(kSpecRollout)
                                                : kManifestRollout));
    if (strategy != kStrategyHandoff) UPD_TRY(watch_alone(fields, strategy));
    UPD_TRY(span(fields, "watch", into.watch));
    UPD_TRY(fields.word("affinity", parse_affinity, affinity_names(), into.affinity));
    UPD_TRY(fields.word("standby", parse_standby, standby_names(), into.standby));
    if (fields.find("steps") == nullptr) return nothing_of_steps(fields);
    UPD_TRY(span(fields, "step_patience", into.step_patience));
    return steps(fields, into);
  }

  Status preflight(const Fields& fields, Preflight& into) const {
    UPD_TRY(fields.allow(kPreflight));
    if (const Json* value = fields.find("warmup")) {
      UPD_ASSIGN(const Fields warmup, Fields::of(*value, fields.place("warmup"), dialect_.code));
      UPD_TRY(this->warmup(warmup, into.warmup.emplace()));
    }
    return fields.each("smoke", kMaxSmokeCommands, [&](const Fields& smoke) -> Status {
      UPD_TRY(
          smoke.allow(dialect_.is_for_people ? std::span<const Key>(kSpecSmoke) : kManifestSmoke));
      Command& command = into.smoke.emplace_back();
      UPD_TRY(smoke.texts("command", command.argv));
      return span(smoke, "timeout", command.timeout);
    });
  }

 private:
  std::string key(std::string_view name) const {
    return std::string(name) + std::string(dialect_.duration_suffix);
  }
  Status span(const Fields& fields, std::string_view name, Milliseconds& into) const {
    return fields.span(key(name), dialect_, into);
  }

  Status watch_alone(const Fields& fields, std::string_view strategy) const {
    for (const auto& [name, ignored] : fields.object().items())
      if (name != key("watch"))
        return Error(dialect_.code, fields.place(name) + " belongs to the strategy 'handoff'")
            .expected("no such key with strategy " + in_quotes(strategy) +
                      ", which moves all at once")
            .got(in_quotes(name));
    return ok();
  }

  Status nothing_of_steps(const Fields& fields) const {
    for (const std::string_view name : kOfSteps)
      for (const std::string& spelt : {std::string(name), key(name)})
        if (fields.find(spelt) != nullptr)
          return Error(dialect_.code, fields.place(spelt) + " is of no use without steps")
              .expected("steps as well, such as [1, 10, 100]")
              .got(in_quotes(spelt));
    return ok();
  }

  Status steps(const Fields& fields, Rollout& into) const {
    Step usual;
    if (dialect_.is_for_people) {
      UPD_TRY(span(fields, "step_duration", usual.duration));
      UPD_TRY(fields.integer("min_connections", usual.min_connections));
    }
    const Json& list = *fields.find("steps");
    const std::string place = fields.place("steps");
    if (!list.is_array()) return fields.wrong_type("steps", "an array");
    if (list.size() > kMaxRolloutSteps)
      return Error(dialect_.code, place + " is too long")
          .expected("at most " + std::to_string(kMaxRolloutSteps) + " items")
          .got(std::to_string(list.size()));
    for (std::size_t i = 0; i < list.size(); ++i)
      UPD_TRY(step(list[i], place_of(place, i), into.steps.emplace_back(usual)));
    return ok();
  }

  Status step(const Json& value, const std::string& place, Step& into) const {
    if (dialect_.is_for_people && value.is_number_integer()) {
      const Json alone = {{"percent", value}};
      UPD_ASSIGN(const Fields fields, Fields::of(alone, place, dialect_.code));
      return fields.integer("percent", into.percent);
    }
    if (dialect_.is_for_people && !value.is_object())
      return Error(dialect_.code, place + " has the wrong type")
          .expected("a number of percent, or a table such as { percent = 50, duration = \"2m\" }")
          .got(std::string(type_phrase(value)));
    UPD_ASSIGN(const Fields fields, Fields::of(value, place, dialect_.code));
    UPD_TRY(fields.allow(dialect_.is_for_people ? std::span<const Key>(kSpecStep) : kManifestStep));
    UPD_TRY(fields.integer("percent", into.percent));
    UPD_TRY(span(fields, "duration", into.duration));
    return fields.integer("min_connections", into.min_connections);
  }

  Status warmup(const Fields& fields, Warmup& into) const {
    UPD_TRY(
        fields.allow(dialect_.is_for_people ? std::span<const Key>(kSpecWarmup) : kManifestWarmup));
    UPD_TRY(fields.texts("paths", into.paths));
    UPD_TRY(fields.integer("count", into.count));
    UPD_TRY(fields.text("listener", into.listener));
    return span(fields, "timeout", into.timeout);
  }

  const Dialect& dialect_;
};

Json step_json(const Step& step) {
  Json out = {{"percent", step.percent}, {"duration_ms", step.duration.count()}};
  if (step.min_connections != 0) out["min_connections"] = step.min_connections;
  return out;
}

}  // namespace

Status read_rollout(const Fields& fields, const Dialect& dialect, std::string_view strategy,
                    Rollout& into) {
  return RolloutReader(dialect).rollout(fields, strategy, into);
}

Status read_preflight(const Fields& fields, const Dialect& dialect, Preflight& into) {
  return RolloutReader(dialect).preflight(fields, into);
}

Json rollout_to_json(const Rollout& rollout) {
  const Rollout defaults;
  if (rollout == defaults) return Json::object();
  Json out = {{"watch_ms", rollout.watch.count()}};
  for (const Step& step : rollout.steps) out["steps"].push_back(step_json(step));
  if (!rollout.steps.empty()) out["step_patience_ms"] = rollout.step_patience.count();
  if (rollout.affinity != defaults.affinity) out["affinity"] = affinity_name(rollout.affinity);
  if (rollout.standby != defaults.standby) out["standby"] = standby_name(rollout.standby);
  return out;
}

Json preflight_to_json(const Preflight& preflight) {
  Json out = Json::object();
  if (const auto& warmup = preflight.warmup) {
    out["warmup"] = {{"paths", warmup->paths},
                     {"count", warmup->count},
                     {"timeout_ms", warmup->timeout.count()}};
    if (!warmup->listener.empty()) out["warmup"]["listener"] = warmup->listener;
  }
  for (const Command& smoke : preflight.smoke)
    out["smoke"].push_back({{"command", smoke.argv}, {"timeout_ms", smoke.timeout.count()}});
  return out;
}

}  // namespace updagent::release
