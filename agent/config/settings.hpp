// This node's configuration. Start here for agent/config/: fragments (node.toml, conf.d/*.toml in
// name order, apps.d/APP.toml) are merged, later over earlier, and become Settings once. Unknown
// keys are refused with "did you mean"; every key stands in docs/configuration.md and in
// schema/node.schema.json, and a test compares the three.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/clock.hpp"
#include "agent/base/error.hpp"
#include "agent/config/environment_file.hpp"

namespace updagent::config {

inline constexpr std::size_t kMaxFragmentBytes = 1024 * 1024;
inline constexpr std::size_t kMaxFragments = 256;

// Where everything is. With --root DIR every folder is below it, so that many nodes fit on one
// machine; without it: /var/lib/updagent, /run/updagent, /etc/updagent.
struct Layout {
  std::string state;    // DIR, or /var/lib/updagent
  std::string runtime;  // DIR/run, or /run/updagent
  std::string etc;      // DIR/etc, or /etc/updagent (or the folder of --config)
  bool explicit_root = false;
  std::string trust_folder;  // DIR/etc/trust.d, or /etc/updagent/trust.d

  // Paths become absolute, so that a hook's working directory doesn't matter. With `config_file`
  // (--config) its folder is `etc`; the keys stay the node's.
  static Layout for_root(const std::optional<std::string>& root,
                         const std::optional<std::string>& config_file = std::nullopt);

  std::string database() const { return state + "/updagent.db"; }
  std::string audit_head() const { return state + "/audit.head"; }
  std::string spool() const { return state + "/spool"; }
  std::string reserve() const { return state + "/journal.reserve"; }
  std::string downloads() const { return state + "/downloads"; }
  std::string apps() const { return state + "/apps"; }
  std::string app(const std::string& name) const { return apps() + "/" + name; }
  std::string releases(const std::string& name) const { return app(name) + "/releases"; }
  std::string release(const std::string& name, const std::string& version) const {
    return releases(name) + "/" + version;
  }
  std::string incoming(const std::string& name) const { return app(name) + "/incoming"; }
  std::string data(const std::string& name) const { return app(name) + "/data"; }
  // RUNTIME_DIRECTORY: sockets of the service and the folders of its generations.
  std::string app_runtime(const std::string& name) const { return runtime + "/" + name; }
  // Held by the driver of a deployment. In the runtime folder: it needs no app folder to exist, and
  // nothing of it has to survive a boot. The dot: no app has a name like it.
  std::string driver_lock(const std::string& name) const {
    return runtime + "/." + name + ".driver";
  }
  std::string trust() const { return trust_folder; }
};

struct Notification {
  std::string name;
  std::vector<std::string> on = {"rolled_back", "rollback_failed"};  // outcomes, or "any"
  std::string webhook;                 // https or http URL; this or command
  std::vector<std::string> command;    // gets the result's JSON on its stdin
  base::Milliseconds timeout{10'000};  // of one try
  int retries = 3;
  std::string bearer_token_file;  // its content goes into Authorization, never into a log
  bool operator==(const Notification&) const = default;
};

// [fetch]
struct FetchSettings {
  base::Milliseconds connect_timeout{20'000};
  base::Milliseconds low_speed_time{30'000};
  std::uint64_t low_speed_bytes = 100;
  base::Milliseconds give_up_after{3'600'000};
  std::uint64_t max_artifact_bytes = 16ULL << 30;
  std::uint64_t bytes_per_second = 0;  // 0: no cap
  std::string ca_file;
  std::string client_certificate;
  std::string client_key;
  std::string netrc_file;
  bool netrc = false;
  bool operator==(const FetchSettings&) const = default;
};

// What a release of one app may ask for, and how it runs here: node.toml gives the defaults, the
// same keys in apps.d/APP.toml win.
struct AppSettings {
  int threshold = 1;                              // [trust]
  std::optional<std::string> user;                // [run] overrides the release's
  std::string default_user = "nobody";            // [run] when neither says one
  std::vector<std::string> allowed_users;         // [allow] users; "*" = any but root
  bool allow_root = false;                        // [allow] root
  std::vector<std::string> allowed_groups;        // [allow] groups
  std::vector<std::string> allowed_capabilities;  // [allow] capabilities
  // [allow] addresses: patterns. Any port that an unprivileged process could bind itself; unix
  // sockets in the app's own runtime folder need no pattern.
  std::vector<std::string> allowed_addresses = {"tcp:*:1024-65535", "udp:*:1024-65535"};
  bool allow_io_uring = false;                     // [allow] io_uring
  std::map<std::string, std::string> listeners;    // [run] listeners: addresses by name
  std::map<std::string, std::uint64_t> rlimits;    // [run] rlimits, over the release's
  int max_generations = 4;                         // [run] of one app at a time, draining ones too
  std::map<std::string, std::string> environment;  // [run] environment, over the release's
  std::vector<std::string> environment_files;      // [run] NAME=value lines; 0600, never logged
  std::optional<int> keep;                         // [retention] overrides the release's
  base::Milliseconds max_hook_timeout{600'000};    // [limits] a release's timeouts are capped by it
  base::Milliseconds max_watch{3'600'000};         // [limits] each step's duration too
  base::Milliseconds max_step_patience{3'600'000};  // [limits] no_data_timeout of gates too
  base::Milliseconds max_pause{86'400'000};         // [limits] an operator's; then it is undone
  base::Milliseconds max_ready_timeout{600'000};    // [limits] extensions by the service included
  base::Milliseconds max_drain_timeout{3'600'000};  // [limits] an old generation's memory is held
  base::Milliseconds max_stop_timeout{600'000};     // [limits] extensions by the service included
  std::uint64_t memory_reserve = 64ULL << 20;       // [limits] left when a generation is started
  std::uint64_t max_release_bytes = 64ULL << 30;    // [limits] unpacked
  std::uint64_t min_free_bytes = 64ULL << 20;  // [limits] left on the file system after staging
  bool operator==(const AppSettings&) const = default;
};

struct Settings {
  std::string node_name;  // default: the host name
  FetchSettings fetch;
  std::string audit_group;  // [audit] may read database and head; "" = only root
  base::Milliseconds audit_keep{400LL * 24 * 3600 *
                                1000};         // [audit] keep: pruned with a checkpoint after this
  std::uint64_t audit_max_events = 2'000'000;  // [audit] max_events
  base::Milliseconds incoming_keep{7LL * 24 * 3600 *
                                   1000};         // [store] half-done downloads and trees
  std::uint64_t incoming_max_bytes = 8ULL << 30;  // [store]
  std::vector<Notification> notifications;        // [[notify]]
  std::vector<std::string> sources;               // files that were read, in order: shown by doctor
  AppSettings app;  // for the app that load() was asked for, or the defaults
  bool operator==(const Settings&) const = default;
};

// What a node has that says nothing, for those who go on although its files can't be read.
Settings defaults();

// config_file: --config FILE instead of etc/node.toml (conf.d and apps.d are looked for beside it).
// Missing files are defaults, but for config_file. app "" reads no apps.d. Tables merge key by key,
// a later list replaces an earlier one, [[notify]] adds. Files and folders that others may write
// are refused. Every error is Code::config_invalid and names file and line.
base::Result<Settings> load(const Layout& layout, const std::optional<std::string>& config_file,
                            const std::string& app);

// One key of the configuration, as docs/configuration.md has it.
struct KeyInfo {
  std::string path;           // "fetch.ca_file", "notify.webhook"
  std::string type;           // "duration, 100ms to 10m"
  std::string default_value;  // as TOML: "\"20s\"", "[]"; "" = none
  bool in_apps;               // apps.d/APP.toml may have it too
  std::string meaning;        // one line
};
std::vector<KeyInfo> all_keys();

}  // namespace updagent::config
