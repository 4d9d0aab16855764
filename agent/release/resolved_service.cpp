#include "agent/release/resolved_service.hpp"

#include "agent/base/strict_json.hpp"
#include "agent/release/checks.hpp"
#include "agent/release/describe.hpp"
#include "agent/release/fields.hpp"
#include "agent/release/rollout_words.hpp"
#include "agent/release/service_reader.hpp"
#include "agent/release/service_rules.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Error;
using base::Json;
using base::ok;
using base::Result;
using base::Status;

constexpr std::string_view kName = "resolved service";
constexpr std::size_t kMaxFolderBytes = 4095;  // PATH_MAX without its NUL

constexpr Key kTopKeys[] = {
    {"affinity"},
    {"allow_io_uring"},
    {"app", true},
    {"cache", true},
    {"data", true},
    {"environment", true},
    {"environment_files", true},
    {"max_generations", true},
    {"max_ready_timeout_ms", true},
    {"max_stop_timeout_ms", true},
    {"memory_reserve", true},
    {"release", true},
    {"runtime", true},
    {"schema", true},
    {"service", true},
    {"standby"},
    {"strategy", true},
    {"user", true},
    {"version", true},
};

// The keys of [service] are those of the manifest.
Dialect dialect_of(Code code) {
  Dialect dialect = kManifestDialect;
  dialect.code = code;
  return dialect;
}

class ResolvedChecks : Checks {
 public:
  using Checks::Checks;

  Status check(const ResolvedService& value) const {
    UPD_TRY(identity(value));
    for (const auto& [key, path] : {std::pair("release", &value.release),
                                    {"data", &value.data},
                                    {"cache", &value.cache},
                                    {"runtime", &value.runtime}})
      UPD_TRY(folder(key, *path));
    UPD_TRY(variables("environment", value.environment));
    UPD_TRY(environment_files(value.environment_files));
    UPD_TRY(bounds(value));
    return check_service(value.service, value.environment, value.strategy, dialect());
  }

 private:
  Status identity(const ResolvedService& value) const {
    if (!is_plain_name(value.app)) return wrong("app", "the name of an app", in_quotes(value.app));
    if (value.version.empty()) return wrong("version", "a version", "''");
    UPD_TRY(label("version", value.version));
    if (!runs_a_service(value.strategy))
      return wrong("strategy", "'handoff' or 'restart'", in_quotes(value.strategy));
    if (value.user.empty() || is_user_name(value.user)) return ok();
    return wrong("user", "the name of a user", in_quotes(value.user));
  }

  Status folder(const std::string& at, const std::string& path) const {
    UPD_TRY(text(at, path));
    if (path.starts_with('/') && path.size() <= kMaxFolderBytes) return ok();
    return wrong(at, "an absolute path", in_quotes(path));
  }

  Status environment_files(const std::vector<std::string>& files) const {
    if (files.size() > kMaxEnvironmentFiles)
      return wrong("environment_files",
                   "at most " + std::to_string(kMaxEnvironmentFiles) + " files",
                   std::to_string(files.size()));
    for (std::size_t i = 0; i < files.size(); ++i)
      UPD_TRY(folder(place_of("environment_files", i), files[i]));
    return ok();
  }

  Status bounds(const ResolvedService& value) const {
    UPD_TRY(span("max_ready_timeout_ms", value.max_ready_timeout, kShortestSpan));
    UPD_TRY(span("max_stop_timeout_ms", value.max_stop_timeout, kShortestSpan));
    UPD_TRY(number("max_generations", value.max_generations, kMinGenerations, kMaxGenerations));
    if (value.memory_reserve <= static_cast<std::uint64_t>(base::kMaxJsonInteger)) return ok();
    return wrong("memory_reserve", "at most 2^53", std::to_string(value.memory_reserve));
  }
};

Json environment_json(const Variables& variables) {
  Json out = Json::object();
  for (const auto& [name, value] : variables) out[name] = value;
  return out;
}

Json tree_of(const ResolvedService& value) {
  Json out = {{"app", value.app},
              {"cache", value.cache},
              {"data", value.data},
              {"environment", environment_json(value.environment)},
              {"environment_files", value.environment_files},
              {"max_generations", value.max_generations},
              {"max_ready_timeout_ms", value.max_ready_timeout.count()},
              {"max_stop_timeout_ms", value.max_stop_timeout.count()},
              {"memory_reserve", value.memory_reserve},
              {"release", value.release},
              {"runtime", value.runtime},
              {"schema", kResolvedServiceSchema},
              {"service", service_to_json(value.service)},
              {"strategy", value.strategy},
              {"user", value.user},
              {"version", value.version}};
  // Like the keys of [service]: a supervisor of before knows none, and needs none.
  if (value.affinity != Affinity::connection) out["affinity"] = affinity_name(value.affinity);
  if (value.allow_io_uring) out["allow_io_uring"] = true;
  if (value.standby != Standby::warm) out["standby"] = standby_name(value.standby);
  return out;
}

Status read_schema(const Fields& top, Code code) {
  std::int64_t schema = 0;
  UPD_TRY(top.integer("schema", schema));
  if (top.find("schema") == nullptr || schema == kResolvedServiceSchema) return ok();
  return Error(code, "the schema is not one that this updagent reads")
      .expected(std::to_string(kResolvedServiceSchema))
      .got(std::to_string(schema));
}

Status read_own(const Fields& top, const Dialect& dialect, ResolvedService& into) {
  UPD_TRY(top.text("app", into.app));
  UPD_TRY(top.text("version", into.version));
  UPD_TRY(top.text("strategy", into.strategy));
  UPD_TRY(top.text("release", into.release));
  UPD_TRY(top.text("data", into.data));
  UPD_TRY(top.text("cache", into.cache));
  UPD_TRY(top.text("runtime", into.runtime));
  UPD_TRY(top.text("user", into.user));
  UPD_TRY(top.variables("environment", into.environment));
  UPD_TRY(top.texts("environment_files", into.environment_files));
  UPD_TRY(top.span("max_ready_timeout_ms", dialect, into.max_ready_timeout));
  UPD_TRY(top.span("max_stop_timeout_ms", dialect, into.max_stop_timeout));
  UPD_TRY(top.integer("max_generations", into.max_generations));
  UPD_TRY(top.boolean("allow_io_uring", into.allow_io_uring));
  UPD_TRY(top.word("affinity", parse_affinity, affinity_names(), into.affinity));
  UPD_TRY(top.word("standby", parse_standby, standby_names(), into.standby));
  std::int64_t reserve = 0;
  UPD_TRY(top.integer("memory_reserve", reserve));
  into.memory_reserve = static_cast<std::uint64_t>(reserve);  // a negative one is past the bound
  return ok();
}

Result<ResolvedService> read(std::string_view text, Code code) {
  if (text.size() > kMaxResolvedServiceBytes)
    return Error(code, "too large")
        .expected("at most " + std::to_string(kMaxResolvedServiceBytes) + " bytes")
        .got(std::to_string(text.size()));
  const Dialect dialect = dialect_of(code);
  UPD_ASSIGN(const Json root, base::parse_strict_json(text, code, kName));
  UPD_ASSIGN(const Fields top, Fields::of(root, "", code));
  UPD_TRY(read_schema(top, code));
  UPD_TRY(top.allow(kTopKeys));
  ResolvedService value;
  UPD_TRY(read_own(top, dialect, value));
  UPD_ASSIGN(const Fields service, Fields::of(root["service"], "service", code));
  UPD_TRY(service.allow(service_keys(dialect)));
  UPD_TRY(read_service(service, dialect, value.service));
  UPD_TRY(ResolvedChecks(dialect).check(value));
  return value;
}

}  // namespace

Result<std::string> resolved_service_to_json(const ResolvedService& value, Code code) {
  UPD_TRY_CONTEXT(ResolvedChecks(dialect_of(code)).check(value), std::string(kName));
  std::string text = tree_of(value).dump();  // every text is UTF-8: checked
  if (text.size() <= kMaxResolvedServiceBytes) return text;
  return Error(code, "too large")
      .expected("at most " + std::to_string(kMaxResolvedServiceBytes) + " bytes")
      .got(std::to_string(text.size()))
      .with_context(std::string(kName));
}

Result<ResolvedService> resolved_service_from_json(std::string_view text, Code code) {
  auto value = read(text, code);
  if (value) return value;
  return Error(std::move(value).error()).with_context(std::string(kName));
}

}  // namespace updagent::release
