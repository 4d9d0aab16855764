#include "agent/release/rules.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "agent/base/text.hpp"
#include "agent/release/describe.hpp"
#include "agent/release/endpoints.hpp"
#include "agent/release/fields.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Error;
using base::Milliseconds;
using base::ok;
using base::Status;

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool is_control(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7F;
}

// Letters, digits, '_', '-', '.': what needs no quoting anywhere.
bool is_plain_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxNameLength && name[0] != '-' && name[0] != '.' &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return is_letter(c) || is_digit(c) || c == '_' || c == '-' || c == '.';
         });
}

// As in POSIX, "Environment Variable Definition", with lower case.
bool is_variable_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxNameLength * 2 && !is_digit(name[0]) &&
         std::all_of(name.begin(), name.end(),
                     [](char c) { return is_letter(c) || is_digit(c) || c == '_'; });
}

bool is_user_name(std::string_view name) {
  return is_plain_name(name) && (is_letter(name[0]) || name[0] == '_');
}

class Rules {
 public:
  explicit Rules(const Dialect& dialect) : dialect_(dialect) {}

  Status identity(const Manifest& manifest) const;
  Status service(const Manifest& manifest) const;
  Status hooks(const Hooks& hooks) const;
  Status probes(const std::vector<Probe>& probes) const;
  Status rollout(const Manifest& manifest) const;
  Status needs(const Manifest& manifest) const;

 private:
  Error wrong(const std::string& place, std::string expected, std::string got) const {
    return Error(dialect_.code, place + " is not valid")
        .expected(std::move(expected))
        .got(std::move(got));
  }
  Status label(const std::string& place, std::string_view value) const;
  Status text(const std::string& place, std::string_view value) const;
  Status number(const std::string& place, std::int64_t value, std::int64_t low,
                std::int64_t high) const;
  Status span(const std::string& place, Milliseconds value, Milliseconds shortest) const;
  Status argv(const std::string& place, const std::vector<std::string>& argv) const;
  Status probe(const std::string& place, const Probe& probe) const;
  Status target(const std::string& place, const Probe& probe) const;
  Status http(const std::string& place, const Probe& probe) const;
  Status timing(const std::string& place, const Probe& probe) const;
  Status rollback_floor(const SemVer& floor, const SemVer& version) const;

  Dialect dialect_;
};

// One line for people: no control bytes.
Status Rules::label(const std::string& place, std::string_view value) const {
  UPD_TRY(text(place, value));
  if (value.size() > kMaxLabelBytes)
    return wrong(place, "at most " + std::to_string(kMaxLabelBytes) + " bytes",
                 std::to_string(value.size()));
  if (std::any_of(value.begin(), value.end(), is_control))
    return wrong(place, "one line without control bytes", in_quotes(value));
  return ok();
}

// What fits JSON, an environment and argv alike.
Status Rules::text(const std::string& place, std::string_view value) const {
  if (value.size() > kMaxStringBytes)
    return wrong(place, "at most " + std::to_string(kMaxStringBytes) + " bytes",
                 std::to_string(value.size()));
  if (!base::is_valid_utf8(value)) return wrong(place, "UTF-8", in_quotes(value));
  if (value.find('\0') != std::string_view::npos) return wrong(place, "no NUL", "one");
  return ok();
}

Status Rules::number(const std::string& place, std::int64_t value, std::int64_t low,
                     std::int64_t high) const {
  if (value >= low && value <= high) return ok();
  return wrong(place, std::to_string(low) + " to " + std::to_string(high), std::to_string(value));
}

Status Rules::span(const std::string& place, Milliseconds value, Milliseconds shortest) const {
  if (value >= shortest && value <= kLongestSpan) return ok();
  return wrong(place, std::to_string(shortest.count()) + " ms to 24 h",
               std::to_string(value.count()) + " ms");
}

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
  if (manifest.environment.size() > kMaxEnvironment)
    return wrong("service.environment", "at most " + std::to_string(kMaxEnvironment) + " variables",
                 std::to_string(manifest.environment.size()));
  std::string_view last;
  for (const auto& [name, value] : manifest.environment) {
    if (!is_variable_name(name))
      return wrong("service.environment", "names of letters, digits and '_', no digit first",
                   in_quotes(name));
    if (name <= last)
      return wrong("service.environment", "sorted names, each once", in_quotes(name));
    UPD_TRY(text("service.environment." + name, value));
    last = name;
  }
  return ok();
}

Status Rules::argv(const std::string& place, const std::vector<std::string>& argv) const {
  if (argv.empty() || argv.size() > kMaxCommandWords)
    return wrong(place, "1 to " + std::to_string(kMaxCommandWords) + " words",
                 std::to_string(argv.size()));
  if (argv[0].empty()) return wrong(place_of(place, std::size_t{0}), "a program", "''");
  for (std::size_t i = 0; i < argv.size(); ++i) UPD_TRY(text(place_of(place, i), argv[i]));
  return ok();
}

Status Rules::hooks(const Hooks& hooks) const {
  for (const NamedHook& named : kNamedHooks) {
    const std::optional<Command>& hook = hooks.*named.hook;
    if (!hook) continue;
    const std::string place = place_of("hooks", named.name);
    UPD_TRY(argv(place + ".command", hook->argv));
    UPD_TRY(span(place + ".timeout" + std::string(dialect_.duration_suffix), hook->timeout,
                 kShortestSpan));
  }
  return ok();
}

Status Rules::probes(const std::vector<Probe>& probes) const {
  const std::string list(dialect_.probes);
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
  if (!is_plain_name(probe.name))
    return wrong(place + ".name",
                 "1 to " + std::to_string(kMaxNameLength) + " letters, digits, '.', '_' and '-'",
                 in_quotes(probe.name));
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
  const std::string suffix(dialect_.duration_suffix);
  UPD_TRY(span(place + ".initial_delay" + suffix, probe.initial_delay, Milliseconds(0)));
  UPD_TRY(span(place + ".interval" + suffix, probe.interval, kShortestSpan));
  UPD_TRY(span(place + ".timeout" + suffix, probe.timeout, kShortestSpan));
  UPD_TRY(number(place + ".failures", probe.failures, 1, kMaxInARow));
  return number(place + ".successes", probe.successes, 1, kMaxInARow);
}

Status Rules::rollout(const Manifest& manifest) const {
  UPD_TRY(span("rollout.watch" + std::string(dialect_.duration_suffix), manifest.watch,
               Milliseconds(0)));
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

}  // namespace

Status check_strategy(std::string_view strategy, const Dialect& dialect) {
  static constexpr std::array<std::string_view, 3> kLater = {"handoff", "restart", "reload"};
  if (strategy == "files") return ok();
  const bool known = std::find(kLater.begin(), kLater.end(), strategy) != kLater.end();
  // In a signed manifest a name that is not known here may be a newer updagent's.
  const bool unsupported = known || dialect.code == Code::manifest_invalid;
  return Error(unsupported ? Code::strategy_unsupported : dialect.code,
               unsupported
                   ? "this version of updagent can't run the strategy " + in_quotes(strategy)
                   : "strategy is not valid")
      .expected("'files'")
      .got(in_quotes(strategy));
}

Status check_description(const Manifest& manifest, const Dialect& dialect) {
  const Rules rules(dialect);
  UPD_TRY(check_strategy(manifest.strategy, dialect));
  UPD_TRY(rules.identity(manifest));
  UPD_TRY(rules.service(manifest));
  UPD_TRY(rules.hooks(manifest.hooks));
  UPD_TRY(rules.probes(manifest.probes));
  UPD_TRY(rules.rollout(manifest));
  return rules.needs(manifest);
}

}  // namespace updagent::release
