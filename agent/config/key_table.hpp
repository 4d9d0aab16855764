// Every key of the configuration, once: what it is called, what it may be, where it goes and what
// it means. Reading, "did you mean", the documentation and the JSON schema all follow this table.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "agent/config/settings.hpp"

namespace updagent::config {

enum class Kind {
  text,  // one line
  path,  // absolute
  url,   // http or https
  user,  // or group: a name for NSS
  boolean,
  integer,       // low to high
  duration,      // low to high milliseconds
  size,          // low to high bytes; an integer or "64MiB"
  paths,         // list
  users,         // list; "*" too, but not root
  outcomes,      // list
  command,       // list: a program and its arguments
  environment,   // table of NAME = "value"
  groups,        // list
  capabilities,  // list: CAP_...
  addresses,     // list of patterns
  listeners,     // table of NAME = "address"
  rlimits,       // table of NAME = number, size or "unlimited"
};

enum class Scope { node, app };  // app: in apps.d/APP.toml as well

struct Rule {
  std::string_view path;
  Kind kind;
  Scope scope;
  std::uint64_t low;
  std::uint64_t high;
  std::string_view meaning;
};

// Where a value goes; the alternative must fit the rule's kind.
using Slot =
    std::variant<std::string*, std::optional<std::string>*, bool*, int*, std::optional<int>*,
                 std::uint64_t*, base::Milliseconds*, std::vector<std::string>*,
                 std::map<std::string, std::string>*, std::map<std::string, std::uint64_t>*>;

template <class Target>
struct Key {
  Rule rule;
  Slot (*slot)(Target&);
};

std::span<const Key<Settings>> setting_keys();
std::span<const Key<Notification>> notification_keys();  // paths without "notify."

inline constexpr std::string_view kNotifyTable = "notify";
inline constexpr std::size_t kMaxNotifications =
    16;  // each may take its time at a deployment's end
inline constexpr std::size_t kMaxListItems = 256;
inline constexpr std::size_t kMaxTextBytes = 4096;  // PATH_MAX; no key needs more
// What a deployment can end in, and "any" of them.
std::span<const std::string> known_outcomes();

std::string type_text(const Rule& rule);              // "duration, 100ms to 10m"
std::string value_text(const Rule& rule, Slot slot);  // as TOML, "" when there is none

}  // namespace updagent::config
