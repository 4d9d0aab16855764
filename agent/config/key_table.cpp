#include "agent/config/key_table.hpp"

#include <array>
#include <utility>

#include "agent/base/text.hpp"
#include "agent/release/resolved_service.hpp"

namespace updagent::config {
namespace {

constexpr std::uint64_t kSecond = 1000;
constexpr std::uint64_t kMinute = 60 * kSecond;
constexpr std::uint64_t kHour = 60 * kMinute;
constexpr std::uint64_t kDay = 24 * kHour;
constexpr std::uint64_t kYears = 3650 * kDay;  // ten: what parse_duration reads
constexpr std::uint64_t kTera = 1ULL << 40;

using S = Settings;
using N = Notification;

// Numbers without a range of their own have low = high = 0.
constexpr std::array kSettingKeys = {
    Key<S>{{"node_name", Kind::text, Scope::node, 0, 0,
            "this node's name in events, notifications and status; the host name when empty"},
           [](S& s) -> Slot { return &s.node_name; }},

    Key<S>{{"fetch.connect_timeout", Kind::duration, Scope::node, 100, 10 * kMinute,
            "for a connection to the server, name lookup and TLS included"},
           [](S& s) -> Slot { return &s.fetch.connect_timeout; }},
    Key<S>{{"fetch.low_speed_time", Kind::duration, Scope::node, kSecond, kHour,
            "a link that stays below low_speed_bytes for this long is taken as dead"},
           [](S& s) -> Slot { return &s.fetch.low_speed_time; }},
    Key<S>{{"fetch.low_speed_bytes", Kind::size, Scope::node, 1, kTera,
            "bytes per second under which a link counts as dead"},
           [](S& s) -> Slot { return &s.fetch.low_speed_bytes; }},
    Key<S>{{"fetch.give_up_after", Kind::duration, Scope::node, kSecond, 30 * kDay,
            "without one new byte for this long the fetch fails (what came is kept for resume)"},
           [](S& s) -> Slot { return &s.fetch.give_up_after; }},
    Key<S>{{"fetch.max_artifact_bytes", Kind::size, Scope::node, 1, 16 * kTera,
            "a larger artifact is refused"},
           [](S& s) -> Slot { return &s.fetch.max_artifact_bytes; }},
    Key<S>{{"fetch.bytes_per_second", Kind::size, Scope::node, 0, kTera,
            "bandwidth that a download may take; 0 is no cap"},
           [](S& s) -> Slot { return &s.fetch.bytes_per_second; }},
    Key<S>{{"fetch.ca_file", Kind::path, Scope::node, 0, 0,
            "PEM file of the certificate authorities for https, instead of the system's"},
           [](S& s) -> Slot { return &s.fetch.ca_file; }},
    Key<S>{{"fetch.client_certificate", Kind::path, Scope::node, 0, 0,
            "PEM file of this node's certificate for servers that ask for one"},
           [](S& s) -> Slot { return &s.fetch.client_certificate; }},
    Key<S>{{"fetch.client_key", Kind::path, Scope::node, 0, 0,
            "PEM file of its private key, when it is not in client_certificate"},
           [](S& s) -> Slot { return &s.fetch.client_key; }},
    Key<S>{{"fetch.netrc", Kind::boolean, Scope::node, 0, 0,
            "take user and password for a host from a netrc file"},
           [](S& s) -> Slot { return &s.fetch.netrc; }},
    Key<S>{{"fetch.netrc_file", Kind::path, Scope::node, 0, 0, "that file; ~/.netrc when empty"},
           [](S& s) -> Slot { return &s.fetch.netrc_file; }},

    Key<S>{{"trust.threshold", Kind::integer, Scope::app, 1, 16,
            "how many different trusted keys must have signed a release"},
           [](S& s) -> Slot { return &s.app.threshold; }},

    Key<S>{{"run.user", Kind::user, Scope::app, 0, 0,
            "user of the service, hooks and exec probes, whatever the release says"},
           [](S& s) -> Slot { return &s.app.user; }},
    Key<S>{
        {"run.default_user", Kind::user, Scope::app, 0, 0,
         "user of the service, hooks and exec probes when neither run.user nor the release names "
         "one"},
        [](S& s) -> Slot { return &s.app.default_user; }},
    Key<S>{
        {"run.environment", Kind::environment, Scope::app, 0, 0,
         "variables for the service, hooks and exec probes, over the release's of the same name"},
        [](S& s) -> Slot { return &s.app.environment; }},
    Key<S>{{"run.environment_files", Kind::paths, Scope::app, 0, 0,
            "files of NAME=value lines for secrets, mode 0600; read at each deployment and start, "
            "never logged"},
           [](S& s) -> Slot { return &s.app.environment_files; }},
    Key<S>{{"run.listeners", Kind::listeners, Scope::app, 0, 0,
            "addresses of the service's listeners by name, over the release's"},
           [](S& s) -> Slot { return &s.app.listeners; }},
    Key<S>{{"run.rlimits", Kind::rlimits, Scope::app, 0, 0,
            "resource limits of the service, over the release's of the same name"},
           [](S& s) -> Slot { return &s.app.rlimits; }},
    Key<S>{{"run.max_generations", Kind::integer, Scope::app, release::kMinGenerations,
            release::kMaxGenerations,
            "generations of the service at a time, those that drain included; then a deployment "
            "waits"},
           [](S& s) -> Slot { return &s.app.max_generations; }},

    Key<S>{{"allow.users", Kind::users, Scope::app, 0, 0,
            "users that a release may ask for; \"*\" is any but root"},
           [](S& s) -> Slot { return &s.app.allowed_users; }},
    Key<S>{{"allow.root", Kind::boolean, Scope::app, 0, 0, "a release may ask for root"},
           [](S& s) -> Slot { return &s.app.allow_root; }},
    Key<S>{{"allow.groups", Kind::groups, Scope::app, 0, 0,
            "supplementary groups that a service may ask for"},
           [](S& s) -> Slot { return &s.app.allowed_groups; }},
    Key<S>{{"allow.capabilities", Kind::capabilities, Scope::app, 0, 0,
            "capabilities that a service may ask for"},
           [](S& s) -> Slot { return &s.app.allowed_capabilities; }},
    Key<S>{{"allow.addresses", Kind::addresses, Scope::app, 0, 0,
            "where a service may ask to listen, beside unix sockets in the app's runtime folder"},
           [](S& s) -> Slot { return &s.app.allowed_addresses; }},
    Key<S>{{"allow.io_uring", Kind::boolean, Scope::app, 0, 0,
            "its services may use io_uring(7), which no seccomp filter looks into"},
           [](S& s) -> Slot { return &s.app.allow_io_uring; }},

    Key<S>{{"retention.keep", Kind::integer, Scope::app, 1, 1000,
            "good releases that stay on disk, whatever the release says"},
           [](S& s) -> Slot { return &s.app.keep; }},

    Key<S>{{"limits.max_hook_timeout", Kind::duration, Scope::app, kSecond, kDay,
            "longer time limits of a release's hooks are cut to this"},
           [](S& s) -> Slot { return &s.app.max_hook_timeout; }},
    Key<S>{{"limits.max_watch", Kind::duration, Scope::app, 0, 30 * kDay,
            "a longer watch of a release, or duration of one of its steps, is cut to this"},
           [](S& s) -> Slot { return &s.app.max_watch; }},
    Key<S>{{"limits.max_step_patience", Kind::duration, Scope::app, 0, 30 * kDay,
            "a longer step_patience of a release, or no_data_timeout of its gates, is cut to this"},
           [](S& s) -> Slot { return &s.app.max_step_patience; }},
    Key<S>{{"limits.max_pause", Kind::duration, Scope::app, kSecond, 30 * kDay,
            "a deployment that an operator has paused for this long is rolled back"},
           [](S& s) -> Slot { return &s.app.max_pause; }},
    Key<S>{{"limits.max_ready_timeout", Kind::duration, Scope::app, kSecond, kDay,
            "a longer ready_timeout of a release is cut to this; its service can't extend it "
            "further"},
           [](S& s) -> Slot { return &s.app.max_ready_timeout; }},
    Key<S>{{"limits.max_drain_timeout", Kind::duration, Scope::app, 0, kDay,
            "a longer drain_timeout of a release is cut to this"},
           [](S& s) -> Slot { return &s.app.max_drain_timeout; }},
    Key<S>{{"limits.max_stop_timeout", Kind::duration, Scope::app, kSecond, kDay,
            "a longer stop_timeout of a release is cut to this; its service can't extend it "
            "further"},
           [](S& s) -> Slot { return &s.app.max_stop_timeout; }},
    Key<S>{{"limits.memory_reserve", Kind::size, Scope::app, 0, 16 * kTera,
            "memory that must be at hand for a new generation beside what the active one uses"},
           [](S& s) -> Slot { return &s.app.memory_reserve; }},
    Key<S>{{"limits.max_release_bytes", Kind::size, Scope::app, 1, 16 * kTera,
            "a release whose files are larger together is refused"},
           [](S& s) -> Slot { return &s.app.max_release_bytes; }},
    Key<S>{{"limits.min_free_bytes", Kind::size, Scope::app, 0, 16 * kTera,
            "must be left on the file system after staging"},
           [](S& s) -> Slot { return &s.app.min_free_bytes; }},

    Key<S>{{"audit.group", Kind::user, Scope::node, 0, 0,
            "group that may read the audit log without being root; nobody when empty"},
           [](S& s) -> Slot { return &s.audit_group; }},
    Key<S>{{"audit.keep", Kind::duration, Scope::node, kDay, kYears,
            "older events are pruned, with a checkpoint in the chain"},
           [](S& s) -> Slot { return &s.audit_keep; }},
    Key<S>{{"audit.max_events", Kind::integer, Scope::node, 100, 1'000'000'000,
            "the oldest events beyond this number are pruned likewise"},
           [](S& s) -> Slot { return &s.audit_max_events; }},

    Key<S>{{"store.incoming_keep", Kind::duration, Scope::node, kSecond, 365 * kDay,
            "half-done downloads and trees that nothing touched for this long are removed"},
           [](S& s) -> Slot { return &s.incoming_keep; }},
    Key<S>{{"store.incoming_max_bytes", Kind::size, Scope::node, 1, 16 * kTera,
            "half-done downloads and trees together; the oldest go first"},
           [](S& s) -> Slot { return &s.incoming_max_bytes; }},
};

constexpr std::array kNotificationKeys = {
    Key<N>{{"name", Kind::text, Scope::app, 0, 0,
            "names this notification in the log; required, each once"},
           [](N& n) -> Slot { return &n.name; }},
    Key<N>{{"on", Kind::outcomes, Scope::app, 0, 0,
            "outcomes that are told: committed, rolled_back, rollback_failed, aborted, refused, "
            "unchanged, or any"},
           [](N& n) -> Slot { return &n.on; }},
    Key<N>{
        {"webhook", Kind::url, Scope::app, 0, 0, "gets the result as a JSON POST; this or command"},
        [](N& n) -> Slot { return &n.webhook; }},
    Key<N>{{"command", Kind::command, Scope::app, 0, 0,
            "program and arguments; gets the same JSON on its standard input"},
           [](N& n) -> Slot { return &n.command; }},
    Key<N>{{"timeout", Kind::duration, Scope::app, 100, 5 * kMinute, "of one try"},
           [](N& n) -> Slot { return &n.timeout; }},
    Key<N>{{"retries", Kind::integer, Scope::app, 0, 10, "further tries after a failed one"},
           [](N& n) -> Slot { return &n.retries; }},
    Key<N>{{"bearer_token_file", Kind::path, Scope::app, 0, 0,
            "file whose content goes into the webhook's Authorization header; mode 0600, never "
            "logged"},
           [](N& n) -> Slot { return &n.bearer_token_file; }},
};

std::string duration_text(std::uint64_t ms) {
  static constexpr std::array<std::pair<std::string_view, std::uint64_t>, 4> kUnits = {
      {{"d", kDay}, {"h", kHour}, {"m", kMinute}, {"s", kSecond}}};
  for (const auto& [unit, length] : kUnits)
    if (ms >= length && ms % length == 0) return std::to_string(ms / length) + std::string(unit);
  return ms == 0 ? "0s" : std::to_string(ms) + "ms";
}

std::string size_text(std::uint64_t bytes) {
  static constexpr std::array<std::string_view, 5> kUnits = {"", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  while (bytes >= 1024 && bytes % 1024 == 0 && unit + 1 < kUnits.size()) {
    bytes /= 1024;
    ++unit;
  }
  return std::to_string(bytes) + std::string(kUnits[unit]);
}

std::string_view kind_name(Kind kind) {
  switch (kind) {
    case Kind::text:
      return "text";
    case Kind::path:
      return "absolute path";
    case Kind::url:
      return "http or https URL";
    case Kind::user:
      return "name";
    case Kind::boolean:
      return "true or false";
    case Kind::integer:
      return "integer";
    case Kind::duration:
      return "duration";
    case Kind::size:
      return "size";
    case Kind::paths:
      return "list of absolute paths";
    case Kind::users:
      return "list of user names";
    case Kind::outcomes:
      return "list of outcomes";
    case Kind::command:
      return "list of words";
    case Kind::environment:
      return "table of NAME = \"value\"";
    case Kind::groups:
      return "list of group names";
    case Kind::capabilities:
      return "list of capabilities";
    case Kind::addresses:
      return "list of address patterns";
    case Kind::listeners:
      return "table of NAME = \"address\"";
    case Kind::rlimits:
      return "table of NAME = number";
  }
  return "";
}

std::string number_text(Kind kind, std::uint64_t value) {
  if (kind == Kind::duration) return duration_text(value);
  return kind == Kind::size ? size_text(value) : std::to_string(value);
}

std::string quoted(std::string_view text) {
  return "\"" + std::string(text) + "\"";
}

// Any of the slots' values as TOML.
struct TomlText {
  const Rule& rule;

  std::string operator()(const std::string* text) const { return quoted(*text); }
  std::string operator()(const bool* value) const { return *value ? "true" : "false"; }
  std::string operator()(const int* value) const { return std::to_string(*value); }
  std::string operator()(const std::uint64_t* value) const {
    const std::string text = number_text(rule.kind, *value);
    return rule.kind == Kind::size && text.ends_with('B') ? quoted(text) : text;
  }
  std::string operator()(const base::Milliseconds* value) const {
    return quoted(duration_text(static_cast<std::uint64_t>(value->count())));
  }
  std::string operator()(const std::vector<std::string>* list) const {
    std::vector<std::string> words;
    for (const std::string& word : *list) words.push_back(quoted(word));
    return "[" + base::join(words, ", ") + "]";
  }
  std::string operator()(const std::map<std::string, std::string>* table) const {
    std::vector<std::string> pairs;
    for (const auto& [name, value] : *table) pairs.push_back(name + " = " + quoted(value));
    return "{" + base::join(pairs, ", ") + "}";
  }
  std::string operator()(const std::map<std::string, std::uint64_t>* table) const {
    std::vector<std::string> pairs;
    for (const auto& [name, value] : *table)
      pairs.push_back(name + " = " +
                      (value == release::kUnlimited ? quoted("unlimited") : std::to_string(value)));
    return "{" + base::join(pairs, ", ") + "}";
  }
  template <class T>
  std::string operator()(std::optional<T>* value) const {
    return *value ? (*this)(&**value) : "";
  }
};

template <class Target>
KeyInfo info_of(const Key<Target>& key, std::string_view prefix, Target& defaults) {
  return {std::string(prefix) + std::string(key.rule.path), type_text(key.rule),
          value_text(key.rule, key.slot(defaults)), key.rule.scope == Scope::app,
          std::string(key.rule.meaning)};
}

}  // namespace

std::span<const Key<Settings>> setting_keys() {
  return kSettingKeys;
}
std::span<const Key<Notification>> notification_keys() {
  return kNotificationKeys;
}

std::span<const std::string> known_outcomes() {
  static const std::array<std::string, 7> kOutcomes = {
      "committed", "rolled_back", "rollback_failed", "aborted", "refused", "unchanged", "any"};
  return kOutcomes;
}

std::string type_text(const Rule& rule) {
  std::string text(kind_name(rule.kind));
  if (rule.high == 0) return text;
  return text + ", " + number_text(rule.kind, rule.low) + " to " +
         number_text(rule.kind, rule.high);
}

std::string value_text(const Rule& rule, Slot slot) {
  return std::visit(TomlText{rule}, slot);
}

std::vector<KeyInfo> all_keys() {
  Settings settings;
  Notification notification;
  std::vector<KeyInfo> keys;
  keys.reserve(std::size(kSettingKeys) + std::size(kNotificationKeys));
  for (const Key<Settings>& key : kSettingKeys) keys.push_back(info_of(key, "", settings));
  const std::string prefix = std::string(kNotifyTable) + ".";
  for (const Key<Notification>& key : kNotificationKeys)
    keys.push_back(info_of(key, prefix, notification));
  return keys;
}

}  // namespace updagent::config
