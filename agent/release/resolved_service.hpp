// What will really be run: the service that a release signed with what the node wants otherwise,
// and the folders and bounds that the node gives it. The driver makes it (agent/config,
// service_request.hpp) and hands it to the supervisor as JSON. No secret is in it:
// environment_files are read when a generation is started.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/clock.hpp"
#include "agent/base/error.hpp"
#include "agent/release/service.hpp"

namespace updagent::release {

inline constexpr int kResolvedServiceSchema = 1;
// A description of 1 MiB, the node's variables, and twice as much for what JSON escapes. Too much
// for a message on a socket: it goes as a memfd or a file.
inline constexpr std::size_t kMaxResolvedServiceBytes = 4UL * 1024 * 1024;
inline constexpr std::size_t kMaxEnvironmentFiles = 256;
inline constexpr int kMinGenerations = 2;   // an active and a candidate
inline constexpr int kMaxGenerations = 16;  // as many as there are slots for sockets

struct ResolvedService {
  std::string app;
  std::string version;
  std::string strategy;
  std::string release;    // the tree's real path: working directory, {release}
  std::string data;       // STATE_DIRECTORY, {data}
  std::string cache;      // CACHE_DIRECTORY
  std::string runtime;    // the app's; each generation's {runtime_dir} is below it
  std::string user;       // "": the supervisor's own
  Variables environment;  // the release's with the node's over it, placeholders not filled in
  std::vector<std::string> environment_files;  // over `environment`, in this order, as they are
  Service service;                             // addresses, limits and times as they hold here
  // How far EXTEND_TIMEOUT_USEC may extend service.ready_timeout and service.stop_timeout.
  base::Milliseconds max_ready_timeout{600'000};
  base::Milliseconds max_stop_timeout{600'000};
  int max_generations = 4;
  Affinity affinity = Affinity::connection;  // while this release is the candidate
  Standby standby = Standby::warm;           // of the generation that it replaces
  std::uint64_t memory_reserve = 0;          // bytes, beside what the active generation uses
  bool allow_io_uring = false;               // launch/guard.hpp

  bool operator==(const ResolvedService&) const = default;
};

// One JSON document, the same bytes for the same value. Nothing is written that could not be read:
// `code` is that of either refusal. Reading is strict: every key known, once and of its type, every
// value within the rules of the manifest.
base::Result<std::string> resolved_service_to_json(const ResolvedService& value, base::Code code);
base::Result<ResolvedService> resolved_service_from_json(std::string_view text, base::Code code);

}  // namespace updagent::release
