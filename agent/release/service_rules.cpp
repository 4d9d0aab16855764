#include "agent/release/service_rules.hpp"

#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <vector>

#include "agent/base/text.hpp"
#include "agent/release/checks.hpp"
#include "agent/release/describe.hpp"
#include "agent/release/fields.hpp"
#include "agent/release/listen_address.hpp"
#include "agent/release/placeholders.hpp"
#include "agent/release/service_words.hpp"

namespace updagent::release {
namespace {

using base::Error;
using base::Milliseconds;
using base::ok;
using base::Status;

// FDSTORE's name for what has none: a listener of this name could not be told from it.
constexpr std::string_view kStoredName = "stored";
// A template can't put itself in the place of what the protocols say.
constexpr std::array<std::string_view, 8> kOurVariables = {
    "LISTEN_FDNAMES", "LISTEN_FDS",    "LISTEN_PID",   "LISTEN_PIDFDID",
    "NGINX",          "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"};
constexpr std::string_view kOurPrefix = "UPDAGENT_";

std::string shown(const TemplatePart& part) {
  return in_quotes("{" + std::string(placeholder_name(*part.placeholder)) + ':' + part.listener +
                   '}');
}

class ServiceRules : Checks {
 public:
  ServiceRules(const Service& service, const Variables& environment, std::string_view strategy,
               const Dialect& dialect)
      : Checks(dialect), service_(service), environment_(environment), strategy_(strategy) {}

  Status check() const {
    UPD_TRY(argv(place("command"), service_.command));
    UPD_TRY(identity());
    UPD_TRY(rlimits());
    UPD_TRY(number(place("umask"), service_.umask, 0, 0777));
    UPD_TRY(times());
    UPD_TRY(signals());
    UPD_TRY(listeners());
    UPD_TRY(workers());
    UPD_TRY(handing_over());
    UPD_TRY(ready());
    return templates();
  }

 private:
  static std::string place(std::string_view key) { return place_of("service", key); }
  std::string listener_place(std::size_t index) const {
    return place_of(place(dialect().listeners), index);
  }
  // Only where it has been checked before.
  ListenAddress address(const Listener& listener) const {
    return parse_listen_address(listener.address, "", dialect().code).value_or(ListenAddress{});
  }
  bool has_streams() const {
    return std::any_of(service_.listeners.begin(), service_.listeners.end(),
                       [&](const Listener& one) { return address(one).is_stream(); });
  }

  Status identity() const;
  Status unique(const std::string& list, const std::vector<std::string>& names) const;
  Status rlimits() const;
  Status times() const;
  Status signals() const;
  Status listeners() const;
  Status listener(std::size_t index) const;
  Status apart(std::size_t index) const;
  Status workers() const;
  Status worker(const std::string& at, const Worker& worker) const;
  Status socket_file(const std::string& at, const Listener& listener) const;
  Status handing_over() const;
  Status ready() const;
  Status templates() const;
  Status command_templates(std::set<std::string>& handed_over) const;
  Status environment_templates() const;
  Status socket_environment(std::set<std::string>& handed_over) const;
  Status without_sockets(const std::string& at, const std::string& text,
                         const std::string& expected) const;
  Status template_of(const std::string& at, const std::string& text,
                     std::set<std::string>& handed_over) const;
  Status socket_placeholder(const std::string& at, const TemplatePart& part) const;
  Status socket_variable(const std::string& name) const;

  const Service& service_;
  const Variables& environment_;
  std::string_view strategy_;
};

Status ServiceRules::identity() const {
  if (service_.groups.size() > kMaxGroups)
    return wrong(place("groups"), "at most " + std::to_string(kMaxGroups) + " groups",
                 std::to_string(service_.groups.size()));
  for (std::size_t i = 0; i < service_.groups.size(); ++i)
    if (!is_user_name(service_.groups[i]))
      return wrong(place_of(place("groups"), i), "the name of a group",
                   in_quotes(service_.groups[i]));
  UPD_TRY(unique(place("groups"), service_.groups));
  for (std::size_t i = 0; i < service_.capabilities.size(); ++i)
    if (!capability_number(service_.capabilities[i]))
      return wrong(place_of(place("capabilities"), i), "the name of a capability",
                   in_quotes(service_.capabilities[i]));
  return unique(place("capabilities"), service_.capabilities);
}

Status ServiceRules::unique(const std::string& list, const std::vector<std::string>& names) const {
  for (auto name = names.begin(); name != names.end(); ++name)
    if (std::find(names.begin(), name, *name) != name)
      return wrong(list, "each once", in_quotes(*name) + " twice");
  return ok();
}

Status ServiceRules::rlimits() const {
  for (const auto& [name, value] : service_.rlimits) {
    const std::string at = place_of(place("rlimits"), name);
    if (!rlimit_resource(name))
      return wrong(at, "one of " + base::join(rlimit_names(), ", "), in_quotes(name));
    if (is_rlimit(name, value)) continue;
    return wrong(at,
                 name == "nofile"
                     ? std::to_string(kLeastOpenFiles) + " to " + std::to_string(kMostOpenFiles)
                     : "at most 2^53 or unlimited",
                 value == kUnlimited ? "unlimited" : std::to_string(value));
  }
  return ok();
}

Status ServiceRules::times() const {
  UPD_TRY(span(place(span_key("ready_timeout")), service_.ready_timeout, kShortestSpan));
  UPD_TRY(span(place(span_key("drain_timeout")), service_.drain_timeout, Milliseconds(0)));
  UPD_TRY(span(place(span_key("stop_timeout")), service_.stop_timeout, kShortestSpan));
  if (service_.watchdog.count() == 0) return ok();
  return span(place(span_key("watchdog")), service_.watchdog, kShortestWatchdog);
}

Status ServiceRules::signals() const {
  if (signal_name(service_.stop_signal).empty())
    return wrong(place("stop_signal"), "one of " + base::join(signal_names(), ", "),
                 std::to_string(service_.stop_signal));
  for (const auto& [key, signal] :
       {std::pair("reload_signal", service_.reload_signal), {"role_signal", service_.role_signal}})
    if (signal != 0 && signal_name(signal).empty())
      return wrong(place(key), "one of " + base::join(signal_names(), ", "),
                   std::to_string(signal));
  return ok();
}

Status ServiceRules::listeners() const {
  const std::string list = place(dialect().listeners);
  if (service_.listeners.size() > kMaxListeners)
    return wrong(list, "at most " + std::to_string(kMaxListeners) + " listeners",
                 std::to_string(service_.listeners.size()));
  for (std::size_t i = 0; i < service_.listeners.size(); ++i) {
    UPD_TRY(listener(i));
    UPD_TRY(apart(i));
  }
  return ok();
}

Status ServiceRules::listener(std::size_t index) const {
  const Listener& one = service_.listeners[index];
  const std::string at = listener_place(index);
  if (!is_plain_name(one.name) || one.name == kStoredName)
    return wrong(at + ".name",
                 "1 to " + std::to_string(kMaxNameLength) +
                     " letters, digits, '.', '_' and '-', but not 'stored'",
                 in_quotes(one.name));
  UPD_ASSIGN(const ListenAddress parsed,
             parse_listen_address(one.address, at + ".address", dialect().code));
  UPD_TRY(number(at + ".backlog", one.backlog, 1, kMaxBacklog));
  if (one.ipv6_only && !parsed.is_v6())
    return wrong(at + ".ipv6_only", "false, since it is no IPv6 address", "true");
  if (one.proxy_protocol && parsed.kind != AddressKind::tcp)
    return wrong(at + ".proxy_protocol", "false, since it is no tcp address", "true");
  return socket_file(at, one);
}

Status ServiceRules::socket_file(const std::string& at, const Listener& listener) const {
  UPD_TRY(number(at + ".mode", listener.mode, 0, 0777));
  for (const auto& [key, name] : {std::pair("user", &listener.user), {"group", &listener.group}})
    if (!name->empty() && !is_user_name(*name))
      return wrong(place_of(at, key), "the name of a " + std::string(key), in_quotes(*name));
  return ok();
}

// From those before it: by name, and by what it takes.
Status ServiceRules::apart(std::size_t index) const {
  const Listener& one = service_.listeners[index];
  const ListenAddress mine = address(one);
  const auto takes_all_v4 = [](const ListenAddress& a, const Listener& b) {
    return a.host == "::" && !b.ipv6_only;
  };
  for (std::size_t i = 0; i < index; ++i) {
    const Listener& other = service_.listeners[i];
    if (other.name == one.name)
      return wrong(listener_place(index) + ".name", "a name of its own", in_quotes(one.name));
    const ListenAddress theirs = address(other);
    if (theirs == mine)
      return wrong(listener_place(index) + ".address", "an address of its own",
                   in_quotes(one.address));
    const bool both_all = (mine.host == "0.0.0.0" && takes_all_v4(theirs, other)) ||
                          (theirs.host == "0.0.0.0" && takes_all_v4(mine, one));
    if (both_all && mine.kind == theirs.kind && mine.port == theirs.port)
      return wrong(listener_place(index) + ".address",
                   "an address of its own: [::] takes IPv4 too, unless ipv6_only = true",
                   in_quotes(one.address) + " beside " + in_quotes(other.address));
  }
  return ok();
}

Status ServiceRules::workers() const {
  const std::string list =
      dialect().is_for_people ? std::string(dialect().workers) : place(dialect().workers);
  const std::vector<Worker>& all = service_.workers;
  if (all.size() > kMaxWorkers)
    return wrong(list, "at most " + std::to_string(kMaxWorkers) + " workers",
                 std::to_string(all.size()));
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::string at = place_of(list, i);
    UPD_TRY(worker(at, all[i]));
    for (std::size_t j = 0; j < i; ++j)
      if (all[j].name == all[i].name)
        return wrong(at + ".name", "a name of its own", in_quotes(all[i].name));
  }
  return ok();
}

Status ServiceRules::worker(const std::string& at, const Worker& worker) const {
  UPD_TRY(plain_name(at + ".name", worker.name));
  UPD_TRY(argv(at + ".command", worker.command));
  for (std::size_t i = 1; i < worker.command.size(); ++i)
    UPD_TRY(without_sockets(place_of(at + ".command", i), worker.command[i],
                            "no placeholders of listeners: a worker has no sockets"));
  if (signal_name(worker.stop_signal).empty())
    return wrong(at + ".stop_signal", "one of " + base::join(signal_names(), ", "),
                 std::to_string(worker.stop_signal));
  return span(at + '.' + span_key("stop_timeout"), worker.stop_timeout, kShortestSpan);
}

// The strategy and the protocol need something to hand over.
Status ServiceRules::handing_over() const {
  const std::string list = place(dialect().listeners);
  const bool is_handoff = strategy_ == kStrategyHandoff;
  if (service_.allow_shared && !is_handoff)
    return wrong(place("allow_shared"), "no such key but with the strategy 'handoff'",
                 in_quotes(strategy_));
  if (!service_.listeners.empty()) return ok();
  if (is_handoff)
    return Error(dialect().code, list + " is missing")
        .expected("at least one, which the strategy 'handoff' hands over")
        .got("none")
        .hint("a process without a listener is for the strategy 'restart'");
  if (service_.protocol == Protocol::systemd) return ok();
  return Error(dialect().code, list + " is missing")
      .expected("at least one, for the protocol " + in_quotes(protocol_name(service_.protocol)))
      .got("none");
}

Status ServiceRules::ready() const {
  if (service_.ready != Ready::listening || has_streams()) return ok();
  return wrong(place("ready"), "'notify' or 'probe', without a tcp or unix listener",
               "'listening'");
}

Status ServiceRules::templates() const {
  std::set<std::string> handed_over;  // listeners whose descriptor is named somewhere
  UPD_TRY(command_templates(handed_over));
  UPD_TRY(environment_templates());
  UPD_TRY(socket_environment(handed_over));
  if (service_.protocol != Protocol::env) return ok();
  for (const Listener& one : service_.listeners)
    if (!handed_over.contains(one.name))
      return wrong(place("socket_environment"),
                   "'{fd:" + one.name +
                       "}' in it or in the command: nothing else tells the process which "
                       "descriptor that listener is",
                   "none");
  return ok();
}

// The program itself has none: it is looked for in the signed tree.
Status ServiceRules::command_templates(std::set<std::string>& handed_over) const {
  for (std::size_t i = 1; i < service_.command.size(); ++i)
    UPD_TRY(template_of(place_of(place("command"), i), service_.command[i], handed_over));
  return ok();
}

Status ServiceRules::environment_templates() const {
  for (const auto& [name, value] : environment_) {
    UPD_TRY(without_sockets(place_of(place("environment"), name), value,
                            "placeholders of listeners in socket_environment alone"));
  }
  return ok();
}

Status ServiceRules::without_sockets(const std::string& at, const std::string& text,
                                     const std::string& expected) const {
  UPD_ASSIGN(const auto parts, parse_template(text, at, dialect().code));
  for (const TemplatePart& part : parts)
    if (part.placeholder && is_of_a_listener(*part.placeholder))
      return wrong(at, expected, shown(part));
  return ok();
}

Status ServiceRules::socket_environment(std::set<std::string>& handed_over) const {
  const std::string table = place("socket_environment");
  UPD_TRY(variables(table, service_.socket_environment));
  for (const auto& [name, value] : service_.socket_environment) {
    UPD_TRY(socket_variable(name));
    UPD_TRY(template_of(place_of(table, name), value, handed_over));
  }
  return ok();
}

Status ServiceRules::socket_variable(const std::string& name) const {
  const bool is_ours =
      name.starts_with(kOurPrefix) ||
      std::find(kOurVariables.begin(), kOurVariables.end(), name) != kOurVariables.end();
  if (is_ours)
    return wrong(place("socket_environment"), "no variable that updagent sets itself",
                 in_quotes(name));
  const bool is_twice = std::any_of(environment_.begin(), environment_.end(),
                                    [&](const auto& other) { return other.first == name; });
  if (!is_twice) return ok();
  return wrong(place("socket_environment"), "no variable that environment has too",
               in_quotes(name));
}

Status ServiceRules::template_of(const std::string& at, const std::string& text,
                                 std::set<std::string>& handed_over) const {
  UPD_ASSIGN(const auto parts, parse_template(text, at, dialect().code));
  for (const TemplatePart& part : parts) {
    if (!part.placeholder || !is_of_a_listener(*part.placeholder)) continue;
    UPD_TRY(socket_placeholder(at, part));
    if (*part.placeholder == Placeholder::fd) handed_over.insert(part.listener);
  }
  return ok();
}

Status ServiceRules::socket_placeholder(const std::string& at, const TemplatePart& part) const {
  const auto found = std::find_if(service_.listeners.begin(), service_.listeners.end(),
                                  [&](const Listener& one) { return one.name == part.listener; });
  if (found == service_.listeners.end())
    return wrong(at, "a placeholder with the name of a listener", shown(part));
  if (*part.placeholder == Placeholder::fd && service_.protocol == Protocol::inject)
    return wrong(at, "no {fd:NAME} with the protocol 'inject', which hands no descriptor over",
                 shown(part));
  const bool is_inet_only =
      *part.placeholder == Placeholder::host || *part.placeholder == Placeholder::port;
  if (is_inet_only && address(*found).is_unix())
    return wrong(at, "{address:NAME} for a unix listener, which has no host and no port",
                 shown(part));
  return ok();
}

}  // namespace

Status check_service(const Service& service, const Variables& environment,
                     std::string_view strategy, const Dialect& dialect) {
  return ServiceRules(service, environment, strategy, dialect).check();
}

}  // namespace updagent::release
