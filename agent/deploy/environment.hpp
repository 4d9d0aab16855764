// What a release's hooks and exec probes see: user, folders, variables. The list is exact, nothing
// of the caller's environment gets through.
#pragma once

#include <string>
#include <vector>

#include "agent/base/error.hpp"
#include "agent/base/identity.hpp"
#include "agent/config/settings.hpp"
#include "agent/release/manifest.hpp"
#include "agent/store/store.hpp"

namespace updagent::deploy {

struct CommandContext {
  std::string trace_id;
  std::string span_id;
  std::string app;
  std::string from;  // "" = none
  std::string to;
  std::string phase;
  std::string hook;  // "pre_upgrade", ..., "probe"
};

// The release whose command it is, and where and as whom it runs.
struct RuntimePlace {
  std::string version;
  std::string release_directory;  // the real path: working directory
  std::string current_link;
  std::string data;
  std::string cache;
  std::string runtime;
  std::optional<base::Identity> identity;  // nothing: the caller's own
};

// Makes data, cache and the runtime folder for the user when they are not there.
base::Result<RuntimePlace> prepare_place(store::AppStore& store, const config::Layout& layout,
                                         const std::string& version, const std::string& user);

// "NAME=value", sorted by name. Layers: ours, the release's, the node's, the node's files. A later
// one wins, but UPDAGENT_*, TRACEPARENT and *_DIRECTORY are always ours.
base::Result<std::vector<std::string>> command_environment(const CommandContext& context,
                                                           const RuntimePlace& place,
                                                           const release::Manifest& manifest,
                                                           const config::AppSettings& settings);

}  // namespace updagent::deploy
