#include "agent/release/description_reader.hpp"

#include <string>
#include <utility>

#include "agent/release/describe.hpp"
#include "agent/release/endpoints.hpp"
#include "agent/release/gate_reader.hpp"
#include "agent/release/rollout_reader.hpp"
#include "agent/release/service_reader.hpp"

namespace updagent::release {
namespace {

using base::Error;
using base::Json;
using base::ok;
using base::Status;

constexpr Key kHooksKeys[] = {{"post_commit"}, {"post_rollback"}, {"post_switch"}, {"pre_upgrade"}};
constexpr Key kRequiresKeys[] = {{"agent"}, {"arch"}, {"rollback_floor"}};
// Of a [service] whose strategy starts no process: they are for hooks and exec probes.
constexpr Key kCommandKeys[] = {{"environment"}, {"user"}};

}  // namespace

// Calls read(section) when the object under `key` is there and has no other keys than `keys`.
template <class Read>
Status DescriptionReader::with_section(const Fields& parent, std::string_view key,
                                       std::span<const Key> keys, Read read) const {
  const Json* value = parent.find(key);
  if (value == nullptr) return ok();
  UPD_ASSIGN(const Fields section, Fields::of(*value, parent.place(key), code()));
  UPD_TRY(section.allow(keys));
  return read(section);
}

Status DescriptionReader::read(const Fields& top, Manifest& into) const {
  UPD_TRY(top.text("app", into.app));
  UPD_TRY(version(top, "version", into.version));
  const bool runs = runs_a_service(into.strategy);
  UPD_TRY(with_section(top, "service",
                       runs ? service_keys(grammar_.dialect) : std::span<const Key>(kCommandKeys),
                       [&](const Fields& fields) { return service(fields, into); }));
  if (grammar_.dialect.is_for_people && into.service) UPD_TRY(read_workers(top, *into.service));
  UPD_TRY(with_section(top, "hooks", kHooksKeys,
                       [&](const Fields& fields) { return hooks(fields, into.hooks); }));
  UPD_TRY(top.each(grammar_.dialect.probes, kMaxProbes, [&](const Fields& fields) {
    return probe(fields, into.probes.emplace_back());
  }));
  UPD_TRY(preflight(top, into));
  UPD_TRY(rollout(top, into));
  UPD_TRY(with_section(top, "retention", grammar_.retention,
                       [&](const Fields& fields) { return fields.integer("keep", into.keep); }));
  return with_section(top, "requires", kRequiresKeys,
                      [&](const Fields& fields) { return needs(fields, into.needs); });
}

Status DescriptionReader::version(const Fields& fields, std::string_view key, SemVer& into) const {
  std::string text;
  UPD_TRY(fields.text(key, text));
  auto version = parse_semver(text);
  if (!version)
    return Error(code(), fields.place(key) + " is not valid")
        .expected(version.error().expected())
        .got(in_quotes(text));
  into = std::move(*version);
  return ok();
}

Status DescriptionReader::hooks(const Fields& fields, Hooks& into) const {
  for (const NamedHook& named : kNamedHooks) {
    const auto read_one = [&](const Fields& hook) -> Status {
      Command& command = (into.*named.hook).emplace();
      if (auto read = hook.texts("command", command.argv); !read) return read;
      return span(hook, "timeout", command.timeout);
    };
    UPD_TRY(with_section(fields, named.name, grammar_.hook, read_one));
  }
  return ok();
}

std::span<const Key> DescriptionReader::probe_keys(ProbeType type) const {
  switch (type) {
    case ProbeType::exec:
      return grammar_.exec_probe;
    case ProbeType::http:
      return grammar_.http_probe;
    case ProbeType::tcp:
      return grammar_.tcp_probe;
  }
  return {};
}

Status DescriptionReader::probe(const Fields& fields, Probe& into) const {
  if (fields.find("type") == nullptr)
    return Error(code(), fields.place("type") + " is missing")
        .expected("'exec', 'http' or 'tcp'")
        .got("none");
  std::string type;
  UPD_TRY(fields.text("type", type));
  UPD_ASSIGN(into.type, parse_probe_type(type, fields.place("type"), code()));
  UPD_TRY(fields.allow(probe_keys(into.type)));
  UPD_TRY(fields.text("name", into.name));
  UPD_TRY(probe_target(fields, into));
  UPD_TRY(span(fields, "initial_delay", into.initial_delay));
  UPD_TRY(span(fields, "interval", into.interval));
  UPD_TRY(span(fields, "timeout", into.timeout));
  into.command.timeout = into.timeout;
  UPD_TRY(fields.integer("failures", into.failures));
  return fields.integer("successes", into.successes);
}

Status DescriptionReader::probe_target(const Fields& fields, Probe& into) const {
  switch (into.type) {
    case ProbeType::exec:
      return fields.texts("command", into.command.argv);
    case ProbeType::tcp:
      return fields.text("address", into.address);
    case ProbeType::http:
      break;
  }
  UPD_TRY(fields.text("url", into.url));
  UPD_TRY(fields.text("expect_body", into.expect_body));
  return statuses(fields, into);
}

Status DescriptionReader::statuses(const Fields& fields, Probe& into) const {
  const Json* value = fields.find("expect_status");
  if (value == nullptr) return ok();
  const std::string place = fields.place("expect_status");
  into.expect_status.clear();
  if (grammar_.statuses_may_be_short && !value->is_array()) return status(*value, place, into);
  if (!value->is_array()) return fields.wrong_type("expect_status", "an array");
  if (value->size() > kMaxStatusRanges)
    return Error(code(), place + " is too long")
        .expected("at most " + std::to_string(kMaxStatusRanges) + " ranges")
        .got(std::to_string(value->size()));
  for (const Json& item : *value)
    UPD_TRY(status(item, place_of(place, into.expect_status.size()), into));
  return ok();
}

Status DescriptionReader::status(const Json& value, const std::string& place, Probe& into) const {
  std::string text;
  if (value.is_string()) {
    text = value.get<std::string>();
  } else if (grammar_.statuses_may_be_short && value.is_number_integer()) {
    text = std::to_string(value.get<std::int64_t>());
  } else {
    return Error(code(), place + " has the wrong type")
        .expected("a status such as \"200-299\"")
        .got(std::string(type_phrase(value)));
  }
  UPD_ASSIGN(const auto range, parse_status_range(text, place, code()));
  into.expect_status.push_back(range);
  return ok();
}

Status DescriptionReader::service(const Fields& fields, Manifest& into) const {
  UPD_TRY(fields.text("user", into.user));
  UPD_TRY(fields.variables("environment", into.environment));
  if (!runs_a_service(into.strategy)) return ok();
  return read_service(fields, grammar_.dialect, into.service.emplace());
}

// One that is empty would be refused as well: it belongs to what hands connections over.
Status DescriptionReader::preflight(const Fields& top, Manifest& into) const {
  const Json* value = top.find("preflight");
  if (value == nullptr) return ok();
  if (into.strategy != kStrategyHandoff)
    return Error(code(), "preflight belongs to the strategy 'handoff'")
        .expected("no such section with strategy " + in_quotes(into.strategy) +
                  ", which has nothing to try out beside what serves")
        .got("one");
  UPD_ASSIGN(const Fields fields, Fields::of(*value, "preflight", code()));
  return read_preflight(fields, grammar_.dialect, into.preflight);
}

Status DescriptionReader::rollout(const Fields& top, Manifest& into) const {
  if (const Json* value = top.find("rollout")) {
    UPD_ASSIGN(const Fields fields, Fields::of(*value, "rollout", code()));
    UPD_TRY(read_rollout(fields, grammar_.dialect, into.strategy, into.rollout));
  }
  return top.each(grammar_.dialect.gates, kMaxGates, [&](const Fields& fields) {
    return read_gate(fields, grammar_.dialect, into.gates.emplace_back());
  });
}

Status DescriptionReader::needs(const Fields& fields, Requires& into) const {
  UPD_TRY(fields.text("agent", into.agent));
  UPD_TRY(fields.text("arch", into.arch));
  if (fields.find("rollback_floor") == nullptr) return ok();
  return version(fields, "rollback_floor", into.rollback_floor.emplace());
}

}  // namespace updagent::release
