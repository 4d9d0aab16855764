// What of a release's wishes for its service this node grants, and what will really run. Pure
// functions over the signed description and the settings.
#pragma once

#include <string>
#include <vector>

#include "agent/base/error.hpp"
#include "agent/config/settings.hpp"
#include "agent/release/resolved_service.hpp"
#include "agent/release/service.hpp"

namespace updagent::config {

// Where the app lives on this node.
struct AppPlace {
  bool we_are_root = true;
  std::string runtime;      // Layout::app_runtime(): unix sockets below it are the app's own
  std::string config_path;  // of apps.d/APP.toml, for hints
};

// Groups, capabilities and addresses. The user is decided for all commands of a release alike, not
// here. An address that the node sets itself (run.listeners) is not the release's wish. Code::
// privilege with the line that would allow all of its kind that is refused.
base::Status check_service_request(const release::Service& wanted, const AppSettings& settings,
                                   const AppPlace& place);

// One thing that the node wants otherwise than the release signed it. Values of variables are not
// shown: "" on both sides.
struct ServiceChange {
  std::string key;  // "listeners.http.address", "rlimits.nofile", "environment.MODE"
  std::string by_release;
  std::string here;
};

struct ServiceResolution {
  release::ResolvedService run;
  std::vector<ServiceChange> changes;
  // Names in run.listeners that this release has no listener for: worth a warning, no refusal,
  // since a rollback may go to a release with other names.
  std::vector<std::string> unused_listeners;
};

// `wanted` and `environment` are the manifest's. In `known` app, version, strategy, user and the
// folders are known; the rest is filled in. Code::config_invalid when what the node sets does not
// fit together with what the release has.
base::Result<ServiceResolution> resolve_service(const release::Service& wanted,
                                                const release::Variables& environment,
                                                release::ResolvedService known,
                                                const AppSettings& settings);

}  // namespace updagent::config
