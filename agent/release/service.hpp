// What a release says about the process that updagent runs for it: [service] and its listeners.
// Plain data, for the manifest, the node's overrides and the supervisor alike. docs/artifact.md,
// "Service".
#pragma once

#include <csignal>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/clock.hpp"
#include "agent/release/rollout.hpp"

namespace updagent::release {

inline constexpr std::string_view kStrategyFiles = "files";
inline constexpr std::string_view kStrategyHandoff = "handoff";
inline constexpr std::string_view kStrategyRestart = "restart";

// Whether a release of this strategy has a process of its own, and so a Service.
constexpr bool runs_a_service(std::string_view strategy) {
  return strategy == kStrategyHandoff || strategy == kStrategyRestart;
}

// Each is a socket per generation, a steering program and a map.
inline constexpr std::size_t kMaxListeners = 32;
inline constexpr std::size_t kMaxGroups = 32;
inline constexpr int kMaxBacklog = 65535;        // what 16 bits of the kernel hold for certain
inline constexpr int kDefaultBacklog = 4096;     // net.core.somaxconn since Linux 5.4
inline constexpr int kDefaultSocketMode = 0660;  // its user and group; others are let in by name
inline constexpr int kDefaultUmask = 022;
// sun_path has 107 bytes and a NUL. The rest is for what a generation adds to have a path of its
// own beside the public one.
inline constexpr std::size_t kMaxUnixPathBytes = 90;
// A busy machine can hold a good service up for this long; more often would only cost.
inline constexpr base::Milliseconds kShortestWatchdog{1000};
// Fewer descriptors and most programs don't get as far as main().
inline constexpr std::uint64_t kLeastOpenFiles = 64;
inline constexpr std::uint64_t kMostOpenFiles = 1U << 30;       // the highest fs.nr_open
inline constexpr std::uint64_t kUnlimited = ~std::uint64_t{0};  // RLIM_INFINITY

// How the process gets its sockets.
enum class Protocol : std::uint8_t {
  systemd,  // LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES, from descriptor 3 on
  nginx,    // NGINX=3;4;
  env,      // placeholders in `command` and `socket_environment` carry the numbers
  inject,   // the process binds as ever and gets ours: any unmodified server
};

// What tells that a generation serves.
enum class Ready : std::uint8_t {
  notify,     // READY=1 from the process
  listening,  // a connection to each of its stream listeners was accepted
  probe,      // the release's probes pass
};

// What becomes of an active generation that dies again and again.
enum class CrashLoop : std::uint8_t { restart, rollback };

struct Listener {
  std::string name;
  std::string address;            // as ListenAddress::text() spells it
  int backlog = kDefaultBacklog;  // of tcp and unix
  bool ipv6_only = false;         // of an IPv6 address: [::] doesn't take IPv4 as well
  bool proxy_protocol = false;    // tcp: connections begin with the header of the PROXY protocol
  // Of a unix path.
  int mode = kDefaultSocketMode;
  std::string user;   // "": the service's
  std::string group;  // "": the service's

  bool operator==(const Listener&) const = default;
};

using Variables = std::vector<std::pair<std::string, std::string>>;  // sorted by name, each once

struct Service {
  std::vector<std::string> command;  // [0] as in a hook; placeholders in the others
  Protocol protocol = Protocol::systemd;
  std::vector<std::string> groups;               // supplementary, beside those of the user
  std::vector<std::string> capabilities;         // "CAP_NET_BIND_SERVICE"
  std::map<std::string, std::uint64_t> rlimits;  // soft and hard: {"nofile", 65536}; kUnlimited
  int umask = kDefaultUmask;
  Ready ready = Ready::notify;
  base::Milliseconds ready_timeout{30'000};
  base::Milliseconds drain_timeout{60'000};
  int stop_signal = SIGTERM;
  base::Milliseconds stop_timeout{10'000};
  int reload_signal = 0;           // 0: it can't be reloaded
  int role_signal = 0;             // to the main process when its role file has changed; 0: none
  base::Milliseconds watchdog{0};  // 0: none
  CrashLoop on_crash_loop = CrashLoop::restart;
  bool allow_shared = false;     // a handoff where connections can't be steered is better than none
  Variables socket_environment;  // placeholders of sockets too
  std::vector<Listener> listeners;
  std::vector<Worker> workers;

  bool operator==(const Service&) const = default;
};

// The defaults that depend on how a server gets its sockets. nginx neither knows sd_notify nor
// stops gracefully on SIGTERM; servers of `env` and `inject` know nothing of us.
Ready default_ready(Protocol protocol);
int default_stop_signal(Protocol protocol);

}  // namespace updagent::release
