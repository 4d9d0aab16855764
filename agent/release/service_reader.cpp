#include "agent/release/service_reader.hpp"

#include <string>
#include <utility>
#include <vector>

#include "agent/base/text.hpp"
#include "agent/release/describe.hpp"
#include "agent/release/listen_address.hpp"
#include "agent/release/service_words.hpp"

namespace updagent::release {
namespace {

using base::Error;
using base::Json;
using base::Milliseconds;
using base::ok;
using base::Status;

constexpr std::string_view kUnlimitedWord = "unlimited";

constexpr Key kSpecServiceKeys[] = {
    {"allow_shared"},  {"capabilities"},  {"command", true},
    {"drain_timeout"}, {"environment"},   {"groups"},
    {"listener"},      {"on_crash_loop"}, {"protocol"},
    {"ready"},         {"ready_timeout"}, {"reload_signal"},
    {"rlimits"},       {"role_signal"},   {"socket_environment"},
    {"stop_signal"},   {"stop_timeout"},  {"umask"},
    {"user"},          {"watchdog"},
};
// What has a default that depends on others, or that may be another one in a later version, is
// always said in what is signed.
constexpr Key kManifestServiceKeys[] = {
    {"allow_shared"},
    {"capabilities"},
    {"command", true},
    {"drain_timeout_ms", true},
    {"environment"},
    {"groups"},
    {"listeners"},
    {"on_crash_loop"},
    {"protocol", true},
    {"ready", true},
    {"ready_timeout_ms", true},
    {"reload_signal"},
    {"rlimits"},
    {"role_signal"},
    {"socket_environment"},
    {"stop_signal", true},
    {"stop_timeout_ms", true},
    {"umask"},
    {"user"},
    {"watchdog_ms"},
    {"workers"},
};
constexpr Key kListenerKeys[] = {{"address", true},  {"backlog"}, {"group"},
                                 {"ipv6_only"},      {"mode"},    {"name", true},
                                 {"proxy_protocol"}, {"user"}};
constexpr Key kSpecWorkerKeys[] = {
    {"command", true}, {"name", true}, {"stop_signal"}, {"stop_timeout"}};
constexpr Key kManifestWorkerKeys[] = {
    {"command", true}, {"name", true}, {"stop_signal", true}, {"stop_timeout_ms", true}};

class ServiceReader {
 public:
  explicit ServiceReader(const Dialect& dialect) : dialect_(dialect) {}
  Status service(const Fields& fields, Service& into) const;
  // `parent` is what has the list.
  Status workers(const Fields& parent, Service& into) const;

 private:
  Status process(const Fields& fields, Service& into) const;
  Status life(const Fields& fields, Service& into) const;
  Status listeners(const Fields& fields, Service& into) const;
  Status listener(const Fields& fields, Listener& into) const;
  Status fitting_keys(const Fields& fields, const ListenAddress& address) const;
  Status rlimits(const Fields& fields, Service& into) const;
  Status rlimit(const Fields& limits, const std::string& name, std::uint64_t& into) const;
  Status signal(const Fields& fields, std::string_view key, int& into) const;
  Status octal(const Fields& fields, std::string_view key, int& into) const;
  Status span(const Fields& fields, std::string_view key, Milliseconds& into) const {
    return fields.span(std::string(key) + std::string(dialect_.duration_suffix), dialect_, into);
  }

  const Dialect& dialect_;
};

Status ServiceReader::signal(const Fields& fields, std::string_view key, int& into) const {
  return fields.word(key, parse_signal, signal_names(), into);
}

// "0644": a text, as the modes of entries.
Status ServiceReader::octal(const Fields& fields, std::string_view key, int& into) const {
  if (fields.find(key) == nullptr) return ok();
  std::string text;
  UPD_TRY(fields.text(key, text));
  if (text.size() != 4 || text[0] != '0' || text.find_first_not_of("01234567") != std::string::npos)
    return Error(dialect_.code, fields.place(key) + " is not valid")
        .expected("four octal digits from '0000' to '0777'")
        .got(in_quotes(text));
  into = std::stoi(text, nullptr, 8);
  return ok();
}

Status ServiceReader::service(const Fields& fields, Service& into) const {
  UPD_TRY(fields.word("protocol", parse_protocol, protocol_names(), into.protocol));
  into.ready = default_ready(into.protocol);
  into.stop_signal = default_stop_signal(into.protocol);
  UPD_TRY(process(fields, into));
  UPD_TRY(life(fields, into));
  UPD_TRY(listeners(fields, into));
  return dialect_.is_for_people ? ok() : workers(fields, into);
}

Status ServiceReader::process(const Fields& fields, Service& into) const {
  UPD_TRY(fields.texts("command", into.command));
  UPD_TRY(fields.texts("groups", into.groups));
  UPD_TRY(fields.texts("capabilities", into.capabilities));
  for (std::size_t i = 0; i < into.capabilities.size(); ++i)
    if (!capability_number(into.capabilities[i]))
      return fields.not_one_of(place_of(fields.place("capabilities"), i), capability_names(),
                               into.capabilities[i]);
  UPD_TRY(rlimits(fields, into));
  UPD_TRY(octal(fields, "umask", into.umask));
  return fields.variables("socket_environment", into.socket_environment);
}

Status ServiceReader::life(const Fields& fields, Service& into) const {
  UPD_TRY(fields.word("ready", parse_ready, ready_names(), into.ready));
  UPD_TRY(span(fields, "ready_timeout", into.ready_timeout));
  UPD_TRY(span(fields, "drain_timeout", into.drain_timeout));
  UPD_TRY(signal(fields, "stop_signal", into.stop_signal));
  UPD_TRY(span(fields, "stop_timeout", into.stop_timeout));
  UPD_TRY(signal(fields, "reload_signal", into.reload_signal));
  UPD_TRY(signal(fields, "role_signal", into.role_signal));
  UPD_TRY(span(fields, "watchdog", into.watchdog));
  UPD_TRY(fields.word("on_crash_loop", parse_crash_loop, crash_loop_names(), into.on_crash_loop));
  return fields.boolean("allow_shared", into.allow_shared);
}

Status ServiceReader::rlimits(const Fields& fields, Service& into) const {
  const Json* value = fields.find("rlimits");
  if (value == nullptr) return ok();
  UPD_ASSIGN(const Fields limits, Fields::of(*value, fields.place("rlimits"), dialect_.code));
  for (const auto& [name, ignored] : value->items()) {
    if (!rlimit_resource(name)) return limits.not_one_of(limits.place(name), rlimit_names(), name);
    UPD_TRY(rlimit(limits, name, into.rlimits[name]));
  }
  return ok();
}

Status ServiceReader::rlimit(const Fields& limits, const std::string& name,
                             std::uint64_t& into) const {
  const Json& value = *limits.find(name);
  if (value.is_number_integer()) {
    const auto number = value.get<std::int64_t>();
    if (number >= 0 && number <= base::kMaxJsonInteger) {
      into = static_cast<std::uint64_t>(number);
      return ok();
    }
  }
  if (value == kUnlimitedWord) {
    into = kUnlimited;
    return ok();
  }
  if (dialect_.is_for_people && value.is_string()) {
    const auto bytes = base::parse_bytes(value.get_ref<const std::string&>());
    if (bytes && *bytes <= static_cast<std::uint64_t>(base::kMaxJsonInteger)) {
      into = *bytes;
      return ok();
    }
  }
  return Error(dialect_.code, limits.place(name) + " is not valid")
      .expected(dialect_.is_for_people ? "a number, a size as \"64MiB\" or \"unlimited\""
                                       : "a number up to 2^53 or \"unlimited\"")
      .got(value.is_string()           ? in_quotes(value.get_ref<const std::string&>())
           : value.is_number_integer() ? std::to_string(value.get<std::int64_t>())
                                       : std::string(type_phrase(value)));
}

Status ServiceReader::listeners(const Fields& fields, Service& into) const {
  return fields.each(dialect_.listeners, kMaxListeners, [&](const Fields& item) -> Status {
    UPD_TRY(item.allow(kListenerKeys));
    return listener(item, into.listeners.emplace_back());
  });
}

Status ServiceReader::listener(const Fields& fields, Listener& into) const {
  UPD_TRY(fields.text("name", into.name));
  UPD_TRY(fields.text("address", into.address));
  UPD_ASSIGN(const ListenAddress address,
             parse_listen_address(into.address, fields.place("address"), dialect_.code));
  UPD_TRY(fitting_keys(fields, address));
  UPD_TRY(fields.integer("backlog", into.backlog));
  UPD_TRY(fields.boolean("ipv6_only", into.ipv6_only));
  UPD_TRY(fields.boolean("proxy_protocol", into.proxy_protocol));
  UPD_TRY(octal(fields, "mode", into.mode));
  UPD_TRY(fields.text("user", into.user));
  return fields.text("group", into.group);
}

// A key that means nothing for this kind of address is a misunderstanding.
Status ServiceReader::fitting_keys(const Fields& fields, const ListenAddress& address) const {
  const auto refuse = [&](std::string_view key, std::string_view belongs_to) -> Status {
    if (fields.find(key) == nullptr) return ok();
    return Error(dialect_.code, fields.place(key) + " is not valid")
        .expected("no such key but for " + std::string(belongs_to))
        .got(in_quotes(key) + " with " + in_quotes(address.text()));
  };
  if (!address.is_stream()) UPD_TRY(refuse("backlog", "tcp and unix"));
  if (address.kind != AddressKind::tcp) UPD_TRY(refuse("proxy_protocol", "tcp"));
  if (!address.is_v6()) UPD_TRY(refuse("ipv6_only", "an IPv6 address"));
  if (address.kind == AddressKind::unix_path) return ok();
  for (const std::string_view key : {"mode", "user", "group"}) UPD_TRY(refuse(key, "a unix path"));
  return ok();
}

Status ServiceReader::workers(const Fields& parent, Service& into) const {
  const std::span<const Key> keys =
      dialect_.is_for_people ? std::span<const Key>(kSpecWorkerKeys) : kManifestWorkerKeys;
  return parent.each(dialect_.workers, kMaxWorkers, [&](const Fields& item) -> Status {
    UPD_TRY(item.allow(keys));
    Worker& worker = into.workers.emplace_back();
    UPD_TRY(item.text("name", worker.name));
    UPD_TRY(item.texts("command", worker.command));
    UPD_TRY(signal(item, "stop_signal", worker.stop_signal));
    return span(item, "stop_timeout", worker.stop_timeout);
  });
}

// --- writing ----------------------------------------------------------------------------------

Json listener_json(const Listener& listener) {
  const Listener defaults;
  Json out = {{"name", listener.name}, {"address", listener.address}};
  if (listener.backlog != defaults.backlog) out["backlog"] = listener.backlog;
  if (listener.ipv6_only) out["ipv6_only"] = true;
  if (listener.proxy_protocol) out["proxy_protocol"] = true;
  if (listener.mode != defaults.mode)
    out["mode"] = mode_text(static_cast<std::uint32_t>(listener.mode));
  if (!listener.user.empty()) out["user"] = listener.user;
  if (!listener.group.empty()) out["group"] = listener.group;
  return out;
}

Json worker_json(const Worker& worker) {
  return {{"command", worker.command},
          {"name", worker.name},
          {"stop_signal", signal_name(worker.stop_signal)},
          {"stop_timeout_ms", worker.stop_timeout.count()}};
}

Json rlimits_json(const Service& service) {
  Json out = Json::object();
  for (const auto& [name, value] : service.rlimits) {
    if (value == kUnlimited) {
      out[name] = kUnlimitedWord;
    } else {
      out[name] = value;
    }
  }
  return out;
}

Json variables_json(const Variables& variables) {
  Json out = Json::object();
  for (const auto& [name, value] : variables) out[name] = value;
  return out;
}

}  // namespace

std::span<const Key> service_keys(const Dialect& dialect) {
  if (dialect.is_for_people) return kSpecServiceKeys;
  return kManifestServiceKeys;
}

Status read_service(const Fields& fields, const Dialect& dialect, Service& into) {
  return ServiceReader(dialect).service(fields, into);
}

Status read_workers(const Fields& top, Service& into) {
  return ServiceReader(kSpecDialect).workers(top, into);
}

Json service_to_json(const Service& service) {
  const Service defaults;
  Json out = {{"command", service.command},
              {"drain_timeout_ms", service.drain_timeout.count()},
              {"protocol", protocol_name(service.protocol)},
              {"ready", ready_name(service.ready)},
              {"ready_timeout_ms", service.ready_timeout.count()},
              {"stop_signal", signal_name(service.stop_signal)},
              {"stop_timeout_ms", service.stop_timeout.count()}};
  const auto add = [&](const char* key, Json value) {
    if (!value.empty()) out[key] = std::move(value);
  };
  if (service.allow_shared) out["allow_shared"] = true;
  add("capabilities", service.capabilities);
  add("groups", service.groups);
  if (service.on_crash_loop != defaults.on_crash_loop)
    out["on_crash_loop"] = crash_loop_name(service.on_crash_loop);
  if (service.reload_signal != 0) out["reload_signal"] = signal_name(service.reload_signal);
  if (service.role_signal != 0) out["role_signal"] = signal_name(service.role_signal);
  add("rlimits", rlimits_json(service));
  add("socket_environment", variables_json(service.socket_environment));
  if (service.umask != defaults.umask)
    out["umask"] = mode_text(static_cast<std::uint32_t>(service.umask));
  if (service.watchdog.count() != 0) out["watchdog_ms"] = service.watchdog.count();
  for (const Listener& listener : service.listeners)
    out["listeners"].push_back(listener_json(listener));
  for (const Worker& worker : service.workers) out["workers"].push_back(worker_json(worker));
  return out;
}

}  // namespace updagent::release
