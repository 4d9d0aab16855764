// Decisions about a release, as pure functions over what is known: nothing here reads or changes
// anything. Each refusal says expected, got and what to do.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "agent/base/digest.hpp"
#include "agent/base/error.hpp"
#include "agent/config/settings.hpp"
#include "agent/journal/journal.hpp"
#include "agent/release/manifest.hpp"
#include "agent/release/resolved_service.hpp"
#include "agent/store/store.hpp"
#include "agent/trust/trust.hpp"

namespace updagent::deploy {

// What this node knows of an app when a release arrives.
struct KnownApp {
  store::Links links;
  std::vector<journal::ReleaseRow> releases;
  std::optional<journal::AppRow> app;
  // Manifest digest of the installed tree of the offered version, if there is one.
  std::optional<base::Digest> installed_digest;
};

struct Permissions {
  std::string expected_app;  // --app, "" = any
  bool allow_downgrade = false;
  bool retry = false;
};

enum class Admission {
  deploy,     // fetch, stage and switch
  reuse,      // the tree of this very manifest is here: check it and switch
  unchanged,  // it is current and committed
};

// An operator's hold, as Code::held.
base::Status check_held(const journal::AppRow& app);

base::Result<Admission> admit(const trust::Statement& offered, const KnownApp& known,
                              const Permissions& permissions);

// The manifest against the statement that was signed, this binary and this machine.
base::Status check_manifest(const release::Manifest& manifest, const trust::Statement& statement,
                            const std::string& agent_version, const std::string& machine);

// The user that hooks and exec probes of the release run as; "" = the caller's own.
// Code::privilege naming the line that would allow what is refused.
base::Result<std::string> user_for(const release::Manifest& manifest,
                                   const config::AppSettings& settings, bool we_are_root,
                                   const std::string& own_user, const std::string& app_config_path);

// The release that `rollback APP` without --to goes to: the newest good one below the current.
std::optional<std::string> previous_release(const std::vector<journal::ReleaseRow>& releases,
                                            const std::string& current,
                                            const std::optional<journal::AppRow>& app);

// Whether `target` can run on data that `from` has touched.
base::Status check_floor(const release::Manifest& from, const std::string& target);

// What --dry-run prints, a line each. `run`: of a release with a service, as it would run here.
std::vector<std::string> describe_plan(const release::Manifest& manifest, const std::string& from,
                                       const std::string& user, const config::AppSettings& settings,
                                       const release::ResolvedService* run = nullptr);

}  // namespace updagent::deploy
