#include "agent/release/spec.hpp"

#include <string>
#include <utility>

#include "agent/release/describe.hpp"
#include "agent/release/description_reader.hpp"
#include "agent/release/service_reader.hpp"
#include "agent/release/toml_tree.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Error;
using base::Json;
using base::ok;
using base::Status;

// --- the keys of each table -------------------------------------------------------------------

constexpr Key kTopKeys[] = {{"app"},     {"version"}, {"strategy"},  {"service"},
                            {"worker"},  {"probe"},   {"hooks"},     {"preflight"},
                            {"rollout"}, {"gate"},    {"retention"}, {"requires"}};
constexpr Key kHookKeys[] = {{"command", true}, {"timeout"}};
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
    .statuses_may_be_short = true,
    .hook = kHookKeys,
    .retention = kRetentionKeys,
    .exec_probe = kExecKeys,
    .http_probe = kHttpKeys,
    .tcp_probe = kTcpKeys,
};

bool has_key(const Json& root, std::string_view table, std::string_view key) {
  const auto section = root.find(table);
  return section != root.end() && section->is_object() && section->contains(key);
}

Error of_a_service(const std::string& place, std::string_view key) {
  return Error(Code::usage, place + " belongs to the strategies 'handoff' and 'restart'")
      .expected("no such key with strategy 'files', which starts no process of its own")
      .got(in_quotes(key));
}

// Keys that mean something only where updagent runs the service itself.
Status refuse_service_keys(const Json& root) {
  for (const Key& known : service_keys(kSpecDialect)) {
    const bool is_of_commands = known.name == "user" || known.name == "environment";
    if (is_of_commands || !has_key(root, "service", known.name)) continue;
    return of_a_service(place_of("service", known.name), known.name);
  }
  if (root.contains(kSpecDialect.workers))
    return of_a_service(std::string(kSpecDialect.workers), kSpecDialect.workers);
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

// One table where a list of them is meant.
Status refuse_single(const Json& parent, std::string_view place, std::string_view key) {
  const auto value = parent.find(key);
  if (value == parent.end() || !value->is_object()) return ok();
  const std::string name = place_of(place, key);
  return Error(Code::usage, name + " has the wrong type")
      .expected("an array of tables")
      .got("a table")
      .hint("write [[" + name + "]] instead of [" + name + "]");
}

Status refuse_single_tables(const Json& root) {
  for (const std::string_view list :
       {kSpecDialect.probes, kSpecDialect.workers, kSpecDialect.gates})
    UPD_TRY(refuse_single(root, "", list));
  const auto service = root.find("service");
  if (service == root.end() || !service->is_object()) return ok();
  return refuse_single(*service, "service", kSpecDialect.listeners);
}

base::Result<Manifest> read_spec(const Json& root) {
  Manifest manifest;
  UPD_ASSIGN(const Fields top, Fields::of(root, "", Code::usage));
  UPD_TRY(top.text("strategy", manifest.strategy));
  UPD_TRY(check_strategy(manifest.strategy, kSpecDialect));
  if (!runs_a_service(manifest.strategy)) UPD_TRY(refuse_service_keys(root));
  UPD_TRY(top.allow(kTopKeys));
  UPD_TRY(require_identity(top));
  UPD_TRY(refuse_single_tables(root));
  if (manifest.strategy == kStrategyHandoff) manifest.rollout.watch = kDefaultHandoffWatch;
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
