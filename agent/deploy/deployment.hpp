// One attempt to take an app from one release to another. The whole life is run() in
// deployment.cpp; each step stands in a file steps_*.cpp; what they hand on is Plan.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/byte_source.hpp"
#include "agent/base/file_lock.hpp"
#include "agent/base/interrupt.hpp"
#include "agent/config/settings.hpp"
#include "agent/deploy/environment.hpp"
#include "agent/deploy/guardian.hpp"
#include "agent/deploy/observer.hpp"
#include "agent/deploy/policy.hpp"
#include "agent/deploy/recorder.hpp"
#include "agent/deploy/result.hpp"
#include "agent/fetch/fetch.hpp"
#include "agent/journal/journal.hpp"
#include "agent/release/artifact_reader.hpp"
#include "agent/store/store.hpp"
#include "agent/trust/trust.hpp"

namespace updagent::deploy {

// The node and the process that drives: the same for every deployment of one command.
struct Context {
  config::Layout layout;
  std::optional<std::string> config_file;
  std::vector<std::string> trust_override;  // --trust
  std::string actor;
  // The command that the guardian becomes: {exe, --root, DIR, recover}; the app is appended. Empty:
  // no guardian.
  std::vector<std::string> guardian_command;
  base::Interrupt* interrupt = nullptr;
  Observer* observer = nullptr;

  journal::Paths journal_paths() const;
};

// The actor of the recovery that runs at boot, before any service.
inline constexpr const char* kBootActor = "boot";

struct ApplyRequest {
  std::string source;  // path, URL, or "-"
  Permissions permissions;
  bool dry_run = false;
  base::Milliseconds wait{0};  // for the app's lock
  bool end_oldest = false;     // where max_generations live: the oldest is stopped, idle or not
  std::optional<base::Digest> expect_sha256;
};

struct RollbackRequest {
  std::string app;
  std::optional<std::string> to;
  bool force = false;
  base::Milliseconds wait{0};
};

// Each blocks until the deployment is closed. An Error only for what never became a deployment (bad
// usage, unusable configuration); everything else is in the result.
base::Result<DeployResult> apply(const Context& context, const ApplyRequest& request);
base::Result<DeployResult> rollback(const Context& context, const RollbackRequest& request);

struct RecoverReport {
  std::string app;
  bool acted = false;
  std::string what;                    // a line for people
  std::optional<DeployResult> result;  // of the deployment that was ended
  std::optional<base::Error> error;
};
// Ends what a dead driver left open, in every app or in one. Works without the database.
// `reason`: "driver_died", "reboot" are found out by themselves. `wait`: for the app's lock; an app
// whose driver is alive is left alone.
base::Result<std::vector<RecoverReport>> recover(const Context& context, const std::string& app,
                                                 base::Milliseconds wait);
// A new database from the trees; the damaged one is kept aside. Lines that say what was found.
base::Result<std::vector<std::string>> rebuild(const Context& context);

}  // namespace updagent::deploy
