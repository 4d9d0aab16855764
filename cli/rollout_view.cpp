#include "cli/rollout_view.hpp"

#include <optional>
#include <utility>
#include <vector>

#include "agent/base/text.hpp"
#include "agent/release/rollout_words.hpp"
#include "agent/release/service_words.hpp"

namespace updagent::cli {
namespace {

std::string target_of(const release::Gate& gate) {
  switch (gate.type) {
    case release::GateType::probe:
      return gate.probe;
    case release::GateType::scrape:
    case release::GateType::prometheus:
      return gate.url;
    case release::GateType::exec:
      return base::join(gate.command.argv, " ");
    case release::GateType::kernel:
      break;
  }
  return "";
}

Json steps_json(const release::Rollout& rollout) {
  Json out = Json::array();
  for (const release::Step& step : rollout.steps)
    out.push_back({{"percent", step.percent},
                   {"duration", base::format_duration(step.duration)},
                   {"min_connections", step.min_connections}});
  return out;
}

Json gates_json(const std::vector<release::Gate>& gates) {
  Json out = Json::array();
  for (const release::Gate& gate : gates)
    out.push_back({{"name", gate.name},
                   {"type", release::gate_type_name(gate.type)},
                   {"target", target_of(gate)},
                   {"condition", gate.condition},
                   {"failures", gate.failures}});
  return out;
}

Json preflight_json(const release::Preflight& preflight) {
  Json warmup;
  if (preflight.warmup)
    warmup = {{"paths", preflight.warmup->paths},
              {"count", preflight.warmup->count},
              {"listener", preflight.warmup->listener},
              {"timeout", base::format_duration(preflight.warmup->timeout)}};
  Json smoke = Json::array();
  for (const release::Command& command : preflight.smoke)
    smoke.push_back(
        {{"command", command.argv}, {"timeout", base::format_duration(command.timeout)}});
  return {{"warmup", std::move(warmup)}, {"smoke", std::move(smoke)}};
}

Json workers_json(const std::optional<release::Service>& service) {
  Json out = Json::array();
  if (!service) return out;
  for (const release::Worker& worker : service->workers)
    out.push_back({{"name", worker.name},
                   {"command", worker.command},
                   {"stop_signal", release::signal_name(worker.stop_signal)},
                   {"stop_timeout", base::format_duration(worker.stop_timeout)}});
  return out;
}

std::string step_text(const release::Step& step) {
  std::string text =
      std::to_string(step.percent) + " % for " + base::format_duration(step.duration);
  if (step.min_connections > 0)
    text += " and " + std::to_string(step.min_connections) + " connections";
  return text;
}

std::string gate_text(const release::Gate& gate) {
  const std::string target = target_of(gate);
  std::string text = gate.name + " (" + std::string(release::gate_type_name(gate.type)) + "): ";
  text += gate.condition;
  if (!gate.condition.empty() && !target.empty()) text += " at ";
  return text + target;
}

}  // namespace

void add_rollout_json(const release::Manifest& manifest, Json& into) {
  into["steps"] = steps_json(manifest.rollout);
  into["step_patience"] = base::format_duration(manifest.rollout.step_patience);
  into["affinity"] = release::affinity_name(manifest.rollout.affinity);
  into["standby"] = release::standby_name(manifest.rollout.standby);
  into["gates"] = gates_json(manifest.gates);
  into["preflight"] = preflight_json(manifest.preflight);
  into["workers"] = workers_json(manifest.service);
}

void print_rollout(const release::Manifest& manifest, const Row& row) {
  if (manifest.service)
    for (const release::Worker& worker : manifest.service->workers)
      row("worker", worker.name + ": " + base::join(worker.command, " "));
  if (const auto& warmup = manifest.preflight.warmup)
    row("warmup", std::to_string(warmup->count) + " times " + base::join(warmup->paths, " "));
  for (const release::Command& smoke : manifest.preflight.smoke)
    row("smoke", base::join(smoke.argv, " "));
  for (const release::Step& step : manifest.rollout.steps) row("step", step_text(step));
  for (const release::Gate& gate : manifest.gates) row("gate", gate_text(gate));
  if (manifest.strategy != release::kStrategyHandoff) return;
  row("affinity", std::string(release::affinity_name(manifest.rollout.affinity)));
  row("standby", std::string(release::standby_name(manifest.rollout.standby)));
}

}  // namespace updagent::cli
