#include "agent/release/spec.hpp"

#include <string>
#include <utility>

#include "agent/release/describe.hpp"
#include "agent/release/description_reader.hpp"
#include "agent/release/toml_tree.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Error;
using base::Json;
using base::ok;
using base::Status;

// --- the keys of each table -------------------------------------------------------------------

constexpr Key kTopKeys[] = {{"app"},   {"version"}, {"strategy"},  {"service"}, {"probe"},
                            {"hooks"}, {"rollout"}, {"retention"}, {"requires"}};
constexpr Key kHookKeys[] = {{"command", true}, {"timeout"}};
constexpr Key kRolloutKeys[] = {{"watch"}};
constexpr Key kRetentionKeys[] = {{"keep"}};
constexpr Key kExecKeys[] = {{"name", true}, {"type", true}, {"command", true}, {"initial_delay"},
                             {"interval"},   {"timeout"},    {"failures"},      {"successes"}};
constexpr Key kHttpKeys[] = {{"name", true},  {"type", true},    {"url", true}, {"expect_status"},
                             {"expect_body"}, {"initial_delay"}, {"interval"},  {"timeout"},
                             {"failures"},    {"successes"}};
constexpr Key kTcpKeys[] = {{"name", true}, {"type", true}, {"address", true}, {"initial_delay"},
                            {"interval"},   {"timeout"},    {"failures"},      {"successes"}};

constexpr Grammar kGrammar = {
    .dialect = kSpecDialect,
    .durations_are_texts = true,
    .statuses_may_be_short = true,
    .hook = kHookKeys,
    .rollout = kRolloutKeys,
    .retention = kRetentionKeys,
    .exec_probe = kExecKeys,
    .http_probe = kHttpKeys,
    .tcp_probe = kTcpKeys,
};

// Keys of the design that mean something only where updagent runs the service itself.
struct ServiceKey {
  std::string_view table;
  std::string_view key;
};
constexpr ServiceKey kServiceOnly[] = {
    {"", "gate"},
    {"", "worker"},
    {"rollout", "affinity"},
    {"rollout", "standby"},
    {"rollout", "step_duration"},
    {"rollout", "steps"},
    {"service", "command"},
    {"service", "drain_timeout"},
    {"service", "listener"},
    {"service", "protocol"},
    {"service", "ready"},
    {"service", "ready_timeout"},
    {"service", "reload_signal"},
    {"service", "role_signal"},
    {"service", "stop_signal"},
    {"service", "stop_timeout"},
};

bool has_key(const Json& root, const ServiceKey& wanted) {
  if (wanted.table.empty()) return root.contains(wanted.key);
  const auto table = root.find(wanted.table);
  return table != root.end() && table->is_object() && table->contains(wanted.key);
}

Status refuse_service_keys(const Json& root) {
  for (const ServiceKey& known : kServiceOnly) {
    if (!has_key(root, known)) continue;
    return Error(Code::usage, place_of(known.table, known.key) +
                                  " belongs to the strategies 'handoff', 'restart' and 'reload'")
        .expected("no such key with strategy 'files', which starts no process of its own")
        .got(in_quotes(known.key));
  }
  return ok();
}

// --- reading ----------------------------------------------------------------------------------

// From the command line or from the file; there is no default for either.
Status require_identity(const Fields& top) {
  for (const std::string_view key : {"app", "version"})
    if (top.find(key) == nullptr)
      return Error(Code::usage, std::string(key) + " is missing")
          .expected("a value")
          .got("none")
          .hint("write it into updagent.toml, or give --" + std::string(key));
  return ok();
}

Status refuse_single_probe(const Fields& top) {
  const Json* value = top.find("probe");
  if (value == nullptr || !value->is_object()) return ok();
  return Error(Code::usage, "probe has the wrong type")
      .expected("an array of tables")
      .got("a table")
      .hint("write [[probe]] instead of [probe]");
}

base::Result<Manifest> read_spec(const Json& root) {
  Manifest manifest;
  UPD_ASSIGN(const Fields top, Fields::of(root, "", Code::usage));
  UPD_TRY(top.text("strategy", manifest.strategy));
  UPD_TRY(check_strategy(manifest.strategy, kSpecDialect));
  UPD_TRY(refuse_service_keys(root));
  UPD_TRY(top.allow(kTopKeys));
  UPD_TRY(require_identity(top));
  UPD_TRY(refuse_single_probe(top));
  UPD_TRY(DescriptionReader(kGrammar).read(top, manifest));
  UPD_TRY(check_description(manifest, kSpecDialect));
  return manifest;
}

base::Result<Manifest> parse(std::string_view toml, const SpecOverrides& overrides) {
  if (toml.size() > kMaxSpecBytes)
    return Error(Code::usage, "too large")
        .expected("at most " + std::to_string(kMaxSpecBytes) + " bytes")
        .got(std::to_string(toml.size()));
  UPD_ASSIGN(Json root, parse_toml_tree(toml));
  if (overrides.app) root["app"] = *overrides.app;
  if (overrides.version) root["version"] = *overrides.version;
  return read_spec(root);
}

}  // namespace

base::Result<Manifest> parse_spec(std::string_view toml, std::string_view name_for_errors,
                                  const SpecOverrides& overrides) {
  auto manifest = parse(toml, overrides);
  if (manifest) return manifest;
  return Error(std::move(manifest).error()).with_context(std::string(name_for_errors));
}

}  // namespace updagent::release
