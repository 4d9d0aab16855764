#include "agent/launch/environment.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <set>

#include "agent/base/child_process.hpp"
#include "agent/base/text.hpp"
#include "agent/launch/placeholders.hpp"

namespace updagent::launch {
namespace {

constexpr std::array<std::pair<Protocol, std::string_view>, 4> kProtocols = {
    {{Protocol::systemd, "systemd"},
     {Protocol::nginx, "nginx"},
     {Protocol::env, "env"},
     {Protocol::inject, "inject"}}};
constexpr std::size_t kMaxDescriptorName = 255;  // sd_pid_notify_with_fds(3), FDNAME

bool passes_descriptors(Protocol protocol) {
  return protocol != Protocol::inject;
}

base::Error wrong_name(const std::string& what, const std::string& name) {
  return {base::Code::config_invalid, what + " '" + base::printable(name) + "' is not a name"};
}

base::Status check_descriptor_name(const std::string& name) {
  const bool plain = std::all_of(name.begin(), name.end(), [](char c) {
    return c > ' ' && c < 0x7F && c != ':' && c != '{' && c != '}';
  });
  if (plain && !name.empty() && name.size() <= kMaxDescriptorName) return base::ok();
  return wrong_name("a descriptor's", name)
      .expected("up to 255 ASCII characters without ':', braces, blanks and control characters");
}

base::Status check_variable_name(const std::string& name) {
  const bool plain = std::all_of(name.begin(), name.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
  });
  const bool digit_first = !name.empty() && std::isdigit(static_cast<unsigned char>(name[0])) != 0;
  if (plain && !name.empty() && !digit_first) return base::ok();
  return wrong_name("an environment variable's", name).expected("letters, digits and '_'");
}

base::Status check_names(const ServiceSituation& situation) {
  std::set<std::string> listeners;
  for (const ListenerName& listener : situation.listeners) {
    UPD_TRY(check_descriptor_name(listener.name));
    if (!listeners.insert(listener.name).second)
      return base::Error(base::Code::config_invalid,
                         "two listeners are called '" + listener.name + "'");
  }
  for (const std::string& name : situation.stored) UPD_TRY(check_descriptor_name(name));
  if (!situation.stored.empty() && situation.protocol != Protocol::systemd)
    return base::Error(base::Code::config_invalid,
                       "the FDSTORE is handed on by protocol systemd only")
        .got(std::string(protocol_name(situation.protocol)));
  return base::ok();
}

// --- placeholders --------------------------------------------------------------------------------

// "tcp:0.0.0.0:8080" without its scheme.
std::string address_of(const ListenerName& listener) {
  const std::size_t colon = listener.address.find(':');
  return colon == std::string::npos ? listener.address : listener.address.substr(colon + 1);
}

void add_listener(Placeholders& placeholders, const ListenerName& listener) {
  const std::string address = address_of(listener);
  placeholders.set("address:" + listener.name, address);
  if (listener.address.starts_with("unix:")) return;
  const std::size_t colon = address.rfind(':');
  if (colon == std::string::npos) return;
  std::string host = address.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  placeholders.set("host:" + listener.name, host);
  placeholders.set("port:" + listener.name, address.substr(colon + 1));
}

std::string numbers(std::size_t count, std::string_view after_each) {
  std::string out;
  for (std::size_t i = 0; i < count; ++i)
    out += std::to_string(kFirstListenFd + static_cast<int>(i)) + std::string(after_each);
  return out;
}

void add_descriptors(Placeholders& placeholders, const ServiceSituation& situation) {
  const std::size_t count = situation.listeners.size();
  placeholders.set("count", std::to_string(count));
  if (!passes_descriptors(situation.protocol)) {
    const std::string reason =
        "protocol inject passes no descriptors: the server binds, and {address:NAME}, {host:NAME} "
        "and {port:NAME} say where";
    placeholders.explain_absence("fd", reason);
    return;
  }
  std::string all = numbers(count, ",");
  if (!all.empty()) all.pop_back();
  placeholders.set("fds", all);
  for (std::size_t i = 0; i < count; ++i)
    placeholders.set("fd:" + situation.listeners[i].name,
                     std::to_string(kFirstListenFd + static_cast<int>(i)));
}

Placeholders placeholders_for(const ServiceSituation& situation) {
  Placeholders placeholders;
  placeholders.set("release", situation.release_directory);
  placeholders.set("version", situation.version);
  placeholders.set("generation", std::to_string(situation.generation));
  placeholders.set("runtime_dir", situation.runtime_directory);
  placeholders.set("data", situation.data_directory);
  for (const ListenerName& listener : situation.listeners) add_listener(placeholders, listener);
  for (const char* of_inet : {"host:", "port:"})
    placeholders.explain_absence(of_inet, "there is no tcp or udp listener of that name");
  add_descriptors(placeholders, situation);
  return placeholders;
}

// --- variables -----------------------------------------------------------------------------------

using Variables = std::map<std::string, std::string>;

// As for hooks: silently, because both run with the same variables of the release.
bool always_ours(const std::string& name) {
  return name.starts_with("UPDAGENT_") || name == "TRACEPARENT" || name.ends_with("_DIRECTORY");
}

Variables defaults_of(const base::Identity& identity) {
  return {{"PATH", base::kSafePath},
          {"LANG", "C.UTF-8"},
          {"HOME", identity.home.empty() ? "/" : identity.home},
          {"USER", identity.user},
          {"LOGNAME", identity.user}};
}

std::string descriptor_names(const ServiceSituation& situation) {
  std::vector<std::string> names;
  names.reserve(situation.listeners.size() + situation.stored.size());
  for (const ListenerName& listener : situation.listeners) names.push_back(listener.name);
  names.insert(names.end(), situation.stored.begin(), situation.stored.end());
  return base::join(names, ":");
}

// What the protocol and sd_notify need; `pids` are variables with the service's pid.
Variables spoken_to(const ServiceSituation& situation, std::set<std::string>& pids) {
  Variables variables;
  const std::size_t passed = situation.listeners.size() + situation.stored.size();
  if (situation.protocol == Protocol::systemd && passed > 0) {
    variables["LISTEN_FDS"] = std::to_string(passed);
    variables["LISTEN_FDNAMES"] = descriptor_names(situation);
    pids.insert("LISTEN_PID");
  }
  if (situation.protocol == Protocol::nginx && passed > 0)
    variables["NGINX"] = numbers(passed, ";");
  if (!situation.notify_socket.empty()) variables["NOTIFY_SOCKET"] = situation.notify_socket;
  if (situation.watchdog_usec) {
    variables["WATCHDOG_USEC"] = std::to_string(*situation.watchdog_usec);
    pids.insert("WATCHDOG_PID");
  }
  if (situation.fdstore_max) variables["FDSTORE"] = std::to_string(*situation.fdstore_max);
  if (!situation.journal_stream.empty()) variables["JOURNAL_STREAM"] = situation.journal_stream;
  return variables;
}

Variables about_itself(const ServiceSituation& situation) {
  Variables variables = {{"UPDAGENT_APP", situation.app},
                         {"UPDAGENT_VERSION", situation.version},
                         {"UPDAGENT_GENERATION", std::to_string(situation.generation)},
                         {"UPDAGENT_RELEASE_DIRECTORY", situation.release_directory},
                         {"STATE_DIRECTORY", situation.data_directory},
                         {"CACHE_DIRECTORY", situation.cache_directory},
                         {"RUNTIME_DIRECTORY", situation.runtime_directory}};
  if (!situation.role_file.empty()) variables["UPDAGENT_ROLE_FILE"] = situation.role_file;
  if (!situation.worker.empty()) variables["UPDAGENT_WORKER"] = situation.worker;
  return variables;
}

base::Error taken(const std::string& name, Protocol protocol) {
  return base::Error(base::Code::config_invalid, "the variable '" + name +
                                                     "' is set by the supervisor, with protocol " +
                                                     std::string(protocol_name(protocol)))
      .hint("leave it out of the release's and the node's environment");
}

// What the release and the node want, between our defaults and what is always ours.
class Layers {
 public:
  explicit Layers(const ServiceSituation& situation)
      : situation_(situation),
        placeholders_(placeholders_for(situation)),
        variables_(defaults_of(situation.identity)),
        spoken_(spoken_to(situation, pids_)) {}

  base::Status add_template(const std::string& name, const std::string& value) {
    UPD_ASSIGN(const bool allowed, may_set(name));
    if (!allowed) return base::ok();
    UPD_ASSIGN(variables_[name], placeholders_.expand(value, "the variable '" + name + "'"));
    return base::ok();
  }

  base::Status add_literal(const std::string& name, const std::string& value) {
    UPD_ASSIGN(const bool allowed, may_set(name));
    if (allowed) variables_[name] = value;
    return base::ok();
  }

  ServiceEnvironment take() {
    variables_.insert(spoken_.begin(), spoken_.end());
    variables_.merge(about_itself(situation_));
    ServiceEnvironment environment;
    for (const auto& [name, value] : variables_)
      environment.variables.emplace_back(name).append("=").append(value);
    environment.pid_variables.assign(pids_.begin(), pids_.end());
    return environment;
  }

 private:
  // False: not theirs to set.
  base::Result<bool> may_set(const std::string& name) {
    UPD_TRY(check_variable_name(name));
    if (always_ours(name)) return false;
    if (spoken_.contains(name) || pids_.contains(name)) return taken(name, situation_.protocol);
    return true;
  }

  const ServiceSituation& situation_;
  Placeholders placeholders_;
  Variables variables_;
  std::set<std::string> pids_;
  Variables spoken_;
};

}  // namespace

std::string_view protocol_name(Protocol protocol) {
  return kProtocols[static_cast<std::size_t>(protocol)].second;
}

base::Result<ServiceEnvironment> service_environment(const ServiceSituation& situation) {
  UPD_TRY(check_names(situation));
  Layers layers(situation);
  for (const auto& [name, value] : situation.variables) UPD_TRY(layers.add_template(name, value));
  for (const auto& [name, value] : situation.secrets) UPD_TRY(layers.add_literal(name, value));
  return layers.take();
}

base::Result<std::vector<std::string>> service_command(const std::vector<std::string>& command,
                                                       const ServiceSituation& situation) {
  UPD_TRY(check_names(situation));
  const Placeholders placeholders = placeholders_for(situation);
  std::vector<std::string> words;
  words.reserve(command.size());
  if (!command.empty()) words.push_back(command.front());
  for (std::size_t i = 1; i < command.size(); ++i) {
    const std::string place = "word " + std::to_string(i + 1) + " of the command";
    UPD_ASSIGN(std::string word, placeholders.expand(command[i], place));
    words.push_back(std::move(word));
  }
  return words;
}

}  // namespace updagent::launch
