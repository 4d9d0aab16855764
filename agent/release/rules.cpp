#include "agent/release/rules.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include "agent/release/checks.hpp"
#include "agent/release/describe.hpp"
#include "agent/release/endpoints.hpp"
#include "agent/release/fields.hpp"
#include "agent/release/rollout_rules.hpp"
#include "agent/release/service_rules.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Error;
using base::Milliseconds;
using base::ok;
using base::Status;

constexpr std::uint16_t kOwnerExecute = 0100;

class Rules : Checks {
 public:
  using Checks::Checks;

  Status identity(const Manifest& manifest) const;
  Status service(const Manifest& manifest) const;
  Status hooks(const Hooks& hooks) const;
  Status probes(const std::vector<Probe>& probes) const;
  Status retention(const Manifest& manifest) const;
  Status needs(const Manifest& manifest) const;

 private:
  Status probe(const std::string& place, const Probe& probe) const;
  Status target(const std::string& place, const Probe& probe) const;
  Status http(const std::string& place, const Probe& probe) const;
  Status timing(const std::string& place, const Probe& probe) const;
  Status rollback_floor(const SemVer& floor, const SemVer& version) const;
};

Status Rules::identity(const Manifest& manifest) const {
  if (!is_app_name(manifest.app))
    return wrong("app",
                 "1 to " + std::to_string(kMaxAppLength) +
                     " of a-z, 0-9, '.', '_' and '-', a letter or digit first, no '..'",
                 in_quotes(manifest.app));
  if (auto version = parse_semver(manifest.version.text()); !version)
    return wrong("version", version.error().expected(), version.error().got());
  UPD_TRY(number("created", manifest.created, 0, kMaxTime));
  UPD_TRY(label("builder", manifest.builder));
  UPD_TRY(label("source.repository", manifest.source_repository));
  return label("source.revision", manifest.source_revision);
}

Status Rules::service(const Manifest& manifest) const {
  if (!manifest.user.empty() && !is_user_name(manifest.user))
    return wrong("service.user", "the name of a user", in_quotes(manifest.user));
  UPD_TRY(variables("service.environment", manifest.environment));
  if (!runs_a_service(manifest.strategy)) {
    if (!manifest.service) return ok();
    return wrong("service", "no process with the strategy " + in_quotes(manifest.strategy), "one");
  }
  if (!manifest.service)
    return Error(dialect().code, "service is missing")
        .expected("a command, which the strategy " + in_quotes(manifest.strategy) + " runs")
        .got("none");
  UPD_TRY(check_service(*manifest.service, manifest.environment, manifest.strategy, dialect()));
  if (manifest.service->ready != Ready::probe || !manifest.probes.empty()) return ok();
  return wrong("service.ready", "a probe in " + in_quotes(dialect().probes) + ", to be ready by",
               "none");
}

Status Rules::hooks(const Hooks& hooks) const {
  for (const NamedHook& named : kNamedHooks) {
    const std::optional<Command>& hook = hooks.*named.hook;
    if (!hook) continue;
    const std::string place = place_of("hooks", named.name);
    UPD_TRY(argv(place + ".command", hook->argv));
    UPD_TRY(span(place + '.' + span_key("timeout"), hook->timeout, kShortestSpan));
  }
  return ok();
}

Status Rules::probes(const std::vector<Probe>& probes) const {
  const std::string list(dialect().probes);
  if (probes.size() > kMaxProbes)
    return wrong(list, "at most " + std::to_string(kMaxProbes) + " probes",
                 std::to_string(probes.size()));
  for (std::size_t i = 0; i < probes.size(); ++i) {
    UPD_TRY(probe(place_of(list, i), probes[i]));
    for (std::size_t j = 0; j < i; ++j)
      if (probes[j].name == probes[i].name)
        return wrong(place_of(list, i) + ".name", "a name of its own", in_quotes(probes[i].name));
  }
  return ok();
}

Status Rules::probe(const std::string& place, const Probe& probe) const {
  UPD_TRY(plain_name(place + ".name", probe.name));
  UPD_TRY(target(place, probe));
  return timing(place, probe);
}

Status Rules::target(const std::string& place, const Probe& probe) const {
  switch (probe.type) {
    case ProbeType::exec:
      return argv(place + ".command", probe.command.argv);
    case ProbeType::http:
      return http(place, probe);
    case ProbeType::tcp:
      if (is_host_and_port(probe.address)) return ok();
      return wrong(place + ".address", "HOST:PORT or [IPV6]:PORT", in_quotes(probe.address));
  }
  return ok();
}

Status Rules::http(const std::string& place, const Probe& probe) const {
  UPD_TRY(text(place + ".url", probe.url));
  if (!is_probe_url(probe.url))
    return wrong(place + ".url", "http://HOST[:PORT]/... or https://..., no credentials",
                 in_quotes(probe.url));
  const std::string statuses = place + ".expect_status";
  if (probe.expect_status.empty() || probe.expect_status.size() > kMaxStatusRanges)
    return wrong(statuses, "1 to " + std::to_string(kMaxStatusRanges) + " ranges",
                 std::to_string(probe.expect_status.size()));
  for (const auto& range : probe.expect_status)
    if (range.first < 100 || range.second > 599 || range.first > range.second)
      return wrong(statuses, "HTTP statuses from 100 to 599", status_range_text(range));
  return text(place + ".expect_body", probe.expect_body);
}

Status Rules::timing(const std::string& place, const Probe& probe) const {
  UPD_TRY(span(place + '.' + span_key("initial_delay"), probe.initial_delay, Milliseconds(0)));
  UPD_TRY(span(place + '.' + span_key("interval"), probe.interval, kShortestSpan));
  UPD_TRY(span(place + '.' + span_key("timeout"), probe.timeout, kShortestSpan));
  UPD_TRY(number(place + ".failures", probe.failures, 1, kMaxInARow));
  return number(place + ".successes", probe.successes, 1, kMaxInARow);
}

Status Rules::retention(const Manifest& manifest) const {
  return number("retention.keep", manifest.keep, 1, kMaxKeep);
}

Status Rules::needs(const Manifest& manifest) const {
  const Requires& needs = manifest.needs;
  UPD_TRY(label("requires.agent", needs.agent));
  if (auto readable = satisfies(SemVer(), needs.agent); !readable)
    return wrong("requires.agent", readable.error().expected(), in_quotes(needs.agent));
  if (!needs.arch.empty() && !is_plain_name(needs.arch))
    return wrong("requires.arch", "a machine name as 'uname -m' prints it", in_quotes(needs.arch));
  return needs.rollback_floor ? rollback_floor(*needs.rollback_floor, manifest.version) : ok();
}

Status Rules::rollback_floor(const SemVer& floor, const SemVer& version) const {
  if (auto readable = parse_semver(floor.text()); !readable)
    return wrong("requires.rollback_floor", readable.error().expected(), readable.error().got());
  if (precedence(floor, version) <= 0) return ok();
  return wrong("requires.rollback_floor", "at most the release's own version " + version.text(),
               floor.text());
}

Status check_one_program(const Manifest& manifest, const std::string& program,
                         const std::string& place, const Dialect& dialect) {
  if (program.starts_with('/') || program.find('/') == std::string::npos)
    return ok();  // the node's
  const auto file = manifest.entries.find_file(program);
  if (file && (file->mode & kOwnerExecute) != 0) return ok();
  return Error(dialect.code, place + " is not valid")
      .expected("an executable file of the release, a name without '/' or an absolute path")
      .got(file ? in_quotes(program) + " of mode " + mode_text(file->mode) : in_quotes(program));
}

}  // namespace

Status check_strategy(std::string_view strategy, const Dialect& dialect) {
  if (strategy == kStrategyFiles || runs_a_service(strategy)) return ok();
  // In a signed manifest a name that is not known here may be a newer updagent's.
  const bool unsupported = strategy == "reload" || dialect.code == Code::manifest_invalid;
  return Error(unsupported ? Code::strategy_unsupported : dialect.code,
               unsupported
                   ? "this version of updagent can't run the strategy " + in_quotes(strategy)
                   : "strategy is not valid")
      .expected("'files', 'handoff' or 'restart'")
      .got(in_quotes(strategy));
}

Status check_program(const Manifest& manifest, const Dialect& dialect) {
  if (!manifest.service) return ok();
  UPD_TRY(check_one_program(manifest, manifest.service->command.front(), "service.command[0]",
                            dialect));
  const std::string list = (dialect.is_for_people ? "" : "service.") + std::string(dialect.workers);
  for (std::size_t i = 0; i < manifest.service->workers.size(); ++i)
    UPD_TRY(check_one_program(manifest, manifest.service->workers[i].command.front(),
                              place_of(list, i) + ".command[0]", dialect));
  return ok();
}

Status check_description(const Manifest& manifest, const Dialect& dialect) {
  const Rules rules(dialect);
  UPD_TRY(check_strategy(manifest.strategy, dialect));
  UPD_TRY(rules.identity(manifest));
  UPD_TRY(rules.service(manifest));
  UPD_TRY(rules.hooks(manifest.hooks));
  UPD_TRY(rules.probes(manifest.probes));
  UPD_TRY(check_preflight(manifest, dialect));
  UPD_TRY(check_rollout(manifest, dialect));
  UPD_TRY(check_gates(manifest, dialect));
  UPD_TRY(rules.retention(manifest));
  return rules.needs(manifest);
}

}  // namespace updagent::release
