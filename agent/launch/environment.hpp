// The exact command and environment of a service, for each way in which servers take a listening
// socket over. Nothing of ours is inherited, whatever we were started with.
//
// Always: PATH, LANG, HOME, USER, LOGNAME (the release or the node may replace these five);
//   UPDAGENT_APP, UPDAGENT_VERSION, UPDAGENT_GENERATION, UPDAGENT_RELEASE_DIRECTORY,
//   UPDAGENT_ROLE_FILE, UPDAGENT_WORKER (of a worker), STATE_DIRECTORY, CACHE_DIRECTORY,
//   RUNTIME_DIRECTORY: as hooks get them, and always ours, as is every UPDAGENT_* and *_DIRECTORY.
// When asked for: NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID, FDSTORE, JOURNAL_STREAM.
//   systemd  LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES: listeners, then what the FDSTORE holds
//   nginx    NGINX="3;4;"
//   env      only what the templates say: "{address:http}={fd:http}"
//   inject   no descriptor is passed
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/error.hpp"
#include "agent/base/identity.hpp"

namespace updagent::launch {

enum class Protocol { systemd, nginx, env, inject };
std::string_view protocol_name(Protocol protocol);

inline constexpr int kFirstListenFd = 3;  // SD_LISTEN_FDS_START of sd_listen_fds(3)

struct ListenerName {
  std::string name;     // no ':' and no control bytes: it stands in LISTEN_FDNAMES
  std::string address;  // as in the manifest: "tcp:0.0.0.0:8080", "unix:/run/x.sock"
};

// What a service is told about itself.
//   {release} {version} {generation} {runtime_dir} {data} {count}
//   {fd:NAME} {fds} ("3,4"), but not with inject; {address:NAME} ("0.0.0.0:8080"), {host:NAME},
//   {port:NAME}
struct ServiceSituation {
  Protocol protocol = Protocol::systemd;
  std::string app;
  std::string version;
  std::uint64_t generation = 0;
  std::string release_directory;  // real path
  std::string runtime_directory;  // of this generation
  std::string data_directory;
  std::string cache_directory;
  std::string role_file;  // "": not told
  std::string worker;     // its name, of a process without listeners; "": the service itself
  base::Identity identity;

  std::vector<ListenerName> listeners;  // in the order of the descriptors
  std::vector<std::string> stored;      // names of what the FDSTORE holds; only with systemd
  // The release's, then the node's: a later one wins. Placeholders are filled in.
  std::vector<std::pair<std::string, std::string>> variables;
  // Of the node's environment files: as they are, for secrets may hold any braces.
  std::vector<std::pair<std::string, std::string>> secrets;

  std::string notify_socket;                   // "": none
  std::optional<std::uint64_t> watchdog_usec;  // none: no watchdog
  std::optional<std::uint64_t> fdstore_max;
  std::string journal_stream;  // "DEVICE:INODE" of stdout when it is the journal's; "": it is not
};

// For ServiceSpec.
struct ServiceEnvironment {
  std::vector<std::string> variables;      // "NAME=value", sorted by name
  std::vector<std::string> pid_variables;  // get the service's own pid
};

base::Result<ServiceEnvironment> service_environment(const ServiceSituation& situation);
// The first word, the program, stands as it is.
base::Result<std::vector<std::string>> service_command(const std::vector<std::string>& command,
                                                       const ServiceSituation& situation);

}  // namespace updagent::launch
