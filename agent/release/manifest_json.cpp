#include "agent/release/manifest_json.hpp"

#include <string>
#include <utility>

#include "agent/base/clock.hpp"
#include "agent/release/describe.hpp"
#include "agent/release/description_reader.hpp"
#include "agent/release/endpoints.hpp"
#include "agent/release/gate_reader.hpp"
#include "agent/release/rollout_reader.hpp"
#include "agent/release/service_reader.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Error;
using base::Json;
using base::ok;
using base::Status;

constexpr Code kInvalid = Code::manifest_invalid;
constexpr std::int64_t kMicrosPerSecond = 1'000'000;
constexpr std::size_t kUpToSeconds = std::string_view("2024-06-18T17:00:00").size();

// --- the keys of each object ------------------------------------------------------------------

constexpr Key kTopKeys[] = {
    {"app", true},    {"builder"}, {"created", true}, {"gates"},          {"hooks"},
    {"preflight"},    {"probes"},  {"requires"},      {"retention"},      {"rollout"},
    {"schema", true}, {"service"}, {"source"},        {"strategy", true}, {"version", true},
};
constexpr Key kSourceKeys[] = {{"repository"}, {"revision"}};
constexpr Key kHookKeys[] = {{"command", true}, {"timeout_ms", true}};
constexpr Key kRetentionKeys[] = {{"keep", true}};
constexpr Key kExecKeys[] = {
    {"command", true}, {"failures", true},  {"initial_delay_ms", true}, {"interval_ms", true},
    {"name", true},    {"successes", true}, {"timeout_ms", true},       {"type", true},
};
constexpr Key kHttpKeys[] = {
    {"expect_body"},       {"expect_status", true}, {"failures", true},  {"initial_delay_ms", true},
    {"interval_ms", true}, {"name", true},          {"successes", true}, {"timeout_ms", true},
    {"type", true},        {"url", true},
};
constexpr Key kTcpKeys[] = {
    {"address", true}, {"failures", true},  {"initial_delay_ms", true}, {"interval_ms", true},
    {"name", true},    {"successes", true}, {"timeout_ms", true},       {"type", true},
};
constexpr Grammar kGrammar = {
    .dialect = kManifestDialect,
    .statuses_may_be_short = false,
    .hook = kHookKeys,
    .retention = kRetentionKeys,
    .exec_probe = kExecKeys,
    .http_probe = kHttpKeys,
    .tcp_probe = kTcpKeys,
};

// --- reading ----------------------------------------------------------------------------------

std::string created_text(std::int64_t seconds) {
  return base::format_rfc3339(seconds * kMicrosPerSecond).substr(0, kUpToSeconds) + 'Z';
}

// One spelling for each time: what is read is written back the same.
Status read_created(const Fields& fields, std::int64_t& into) {
  std::string text;
  UPD_TRY(fields.text("created", text));
  const auto micros = base::parse_rfc3339(text);
  if (!micros || created_text(*micros / kMicrosPerSecond) != text)
    return Error(kInvalid, "created is not valid")
        .expected("a time such as '2024-06-18T17:00:00Z'")
        .got(in_quotes(text));
  into = *micros / kMicrosPerSecond;
  return ok();
}

// What decides whether the rest can be understood at all comes first.
Status read_schema_and_strategy(const Fields& top, Manifest& into) {
  std::int64_t schema = 0;
  UPD_TRY(top.integer("schema", schema));
  if (top.find("schema") != nullptr && schema != kManifestSchema)
    return Error(kInvalid, "the manifest has a schema that this updagent does not read")
        .expected(std::to_string(kManifestSchema))
        .got(std::to_string(schema))
        .hint("a newer updagent may read it");
  UPD_TRY(top.text("strategy", into.strategy));
  return check_strategy(into.strategy, kManifestDialect);
}

Status read_source(const Fields& top, Manifest& into) {
  const Json* value = top.find("source");
  if (value == nullptr) return ok();
  UPD_ASSIGN(const Fields source, Fields::of(*value, "source", kInvalid));
  UPD_TRY(source.allow(kSourceKeys));
  UPD_TRY(source.text("repository", into.source_repository));
  return source.text("revision", into.source_revision);
}

// --- writing ----------------------------------------------------------------------------------

Json hooks_json(const Hooks& hooks) {
  Json out = Json::object();
  for (const NamedHook& named : kNamedHooks)
    if (const auto& hook = hooks.*named.hook)
      out[std::string(named.name)] = {{"command", hook->argv},
                                      {"timeout_ms", hook->timeout.count()}};
  return out;
}

void add_probe_target(const Probe& probe, Json& out) {
  switch (probe.type) {
    case ProbeType::exec:
      out["command"] = probe.command.argv;
      break;
    case ProbeType::tcp:
      out["address"] = probe.address;
      break;
    case ProbeType::http:
      out["url"] = probe.url;
      if (!probe.expect_body.empty()) out["expect_body"] = probe.expect_body;
      for (const auto& range : probe.expect_status)
        out["expect_status"].push_back(status_range_text(range));
      break;
  }
}

Json probes_json(const std::vector<Probe>& probes) {
  Json out = Json::array();
  for (const Probe& probe : probes) {
    Json item = {{"name", probe.name},
                 {"type", probe_type_name(probe.type)},
                 {"initial_delay_ms", probe.initial_delay.count()},
                 {"interval_ms", probe.interval.count()},
                 {"timeout_ms", probe.timeout.count()},
                 {"failures", probe.failures},
                 {"successes", probe.successes}};
    add_probe_target(probe, item);
    out.push_back(std::move(item));
  }
  return out;
}

// The texts that are not empty.
Json texts_json(std::initializer_list<std::pair<const char*, std::string>> texts) {
  Json out = Json::object();
  for (const auto& [key, value] : texts)
    if (!value.empty()) out[key] = value;
  return out;
}

Json service_json(const Manifest& manifest) {
  Json out = manifest.service ? service_to_json(*manifest.service) : Json::object();
  if (!manifest.user.empty()) out["user"] = manifest.user;
  for (const auto& [name, value] : manifest.environment) out["environment"][name] = value;
  return out;
}

Json requires_json(const Requires& needs) {
  return texts_json({{"agent", needs.agent},
                     {"arch", needs.arch},
                     {"rollback_floor", needs.rollback_floor ? needs.rollback_floor->text() : ""}});
}

}  // namespace

base::Result<Manifest> description_from_json(const Json& root) {
  UPD_ASSIGN(const Fields top, Fields::of(root, "", kInvalid));
  Manifest manifest;
  UPD_TRY(read_schema_and_strategy(top, manifest));
  UPD_TRY(top.allow(kTopKeys));
  UPD_TRY(read_created(top, manifest.created));
  UPD_TRY(top.text("builder", manifest.builder));
  UPD_TRY(read_source(top, manifest));
  UPD_TRY(DescriptionReader(kGrammar).read(top, manifest));
  UPD_TRY(check_description(manifest, kManifestDialect));
  return manifest;
}

Json description_to_json(const Manifest& manifest) {
  Json out = {{"app", manifest.app},
              {"created", created_text(manifest.created)},
              {"schema", kManifestSchema},
              {"strategy", manifest.strategy},
              {"version", manifest.version.text()}};
  const auto add = [&](const char* key, Json section) {
    if (!section.empty()) out[key] = std::move(section);
  };
  if (!manifest.builder.empty()) out["builder"] = manifest.builder;
  add("hooks", hooks_json(manifest.hooks));
  add("probes", probes_json(manifest.probes));
  add("requires", requires_json(manifest.needs));
  if (manifest.keep != Manifest().keep) out["retention"] = {{"keep", manifest.keep}};
  add("preflight", preflight_to_json(manifest.preflight));
  add("rollout", rollout_to_json(manifest.rollout));
  for (const Gate& gate : manifest.gates) out["gates"].push_back(gate_to_json(gate));
  add("service", service_json(manifest));
  add("source", texts_json({{"repository", manifest.source_repository},
                            {"revision", manifest.source_revision}}));
  return out;
}

}  // namespace updagent::release
