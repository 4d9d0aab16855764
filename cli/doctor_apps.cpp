// doctor, of the apps: what each would stumble over, and what they could do to each other.
#include <unistd.h>

#include <algorithm>
#include <map>

#include "agent/base/files.hpp"
#include "agent/base/identity.hpp"
#include "agent/base/text.hpp"
#include "agent/release/semver.hpp"
#include "agent/store/store.hpp"
#include "agent/trust/trust.hpp"
#include "cli/doctor.hpp"
#include "cli/standing.hpp"

namespace updagent::cli {
namespace {

// Every app that something on this node speaks of.
std::vector<std::string> apps_spoken_of(Session& session, std::vector<Finding>& findings) {
  constexpr std::size_t kMaxNames = 10'000;
  constexpr std::string_view kToml = ".toml";
  std::vector<std::string> names;
  if (const auto installed = installed_apps(session)) names = *installed;
  const std::string settings = session.layout().etc + "/apps.d";
  const auto files = base::list_directory(settings, kMaxNames);
  for (std::string name : files.value_or(std::vector<std::string>())) {
    if (name.front() == '.' || !name.ends_with(kToml)) continue;
    name.resize(name.size() - kToml.size());
    if (release::is_app_name(name))
      names.push_back(std::move(name));
    else
      findings.push_back({"apps.d", Health::limited,
                          "'" + name + ".toml' is read by no app: that is no app's name",
                          "rename it in " + settings});
  }
  const auto folders = base::list_directory(session.layout().trust(), kMaxNames);
  for (const std::string& name : folders.value_or(std::vector<std::string>())) {
    if (release::is_app_name(name) && base::open_directory(session.layout().trust() + "/" + name))
      names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

// What `apply` of this app would stumble over.
base::Result<std::string> app_in_order(Session& session, const std::string& app) {
  UPD_ASSIGN(const config::Settings settings, session.settings(app));
  UPD_ASSIGN(const trust::TrustSet trust,
             trust::load_trust(session.layout().trust(), app, settings.app.threshold));
  for (const std::string& file : settings.app.environment_files)
    UPD_TRY(config::read_environment_file(file));
  if (::geteuid() == 0) {
    UPD_TRY(base::identity_of_user(settings.app.user.value_or(settings.app.default_user)));
  }
  if (trust.keys.size() < static_cast<std::size_t>(settings.app.threshold))
    return base::Error(base::Code::no_trusted_keys,
                       std::to_string(settings.app.threshold) + " keys must sign, " +
                           std::to_string(trust.keys.size()) + " in " + trust.where)
        .hint(trust.to_add);
  return std::to_string(trust.keys.size()) + " keys in " + trust.where + ", " +
         std::to_string(settings.app.threshold) + " must sign";
}

// Of what is installed and runs: "" when it has no service, or that can't be known.
std::string user_of_service(Session& session, const std::string& app) {
  const auto store = store::AppStore::open(session.layout().app(app), app, false);
  if (!store) return "";
  const auto links = store->links();
  if (!links || !links->committed) return "";
  const auto manifest = store->description(*links->committed);
  const auto settings = session.settings(app);
  if (!manifest || !manifest->service || !settings) return "";
  if (settings->app.user) return *settings->app.user;
  return manifest->user.empty() ? settings->app.default_user : manifest->user;
}

// Nothing of ours stands between processes of the same user: they can kill and read each other.
void check_users(Session& session, std::vector<Finding>& findings) {
  const auto apps = installed_apps(session);
  if (!apps || ::geteuid() != 0) return;  // not root: all have ours, which is said
  std::map<std::string, std::vector<std::string>> apps_of;
  for (const std::string& app : *apps)
    if (const std::string user = user_of_service(session, app); !user.empty())
      apps_of[user].push_back(app);
  for (const auto& [user, sharing] : apps_of) {
    if (sharing.size() < 2) continue;
    findings.push_back({"users", Health::limited,
                        base::join(sharing, ", ") + " run as '" + user +
                            "': each could kill the others and read their memory and data",
                        "give each a user of its own: [run] user in " + session.layout().etc +
                            "/apps.d/APP.toml"});
  }
}

}  // namespace

void check_apps(Session& session, std::vector<Finding>& findings) {
  for (const std::string& app : apps_spoken_of(session, findings)) {
    const auto found = app_in_order(session, app);
    if (found) {
      findings.push_back({"app " + app, Health::good, *found, ""});
      continue;
    }
    // what is wrong for all apps was said once
    const bool said = std::any_of(findings.begin(), findings.end(), [&](const Finding& finding) {
      return finding.found == found.error().line();
    });
    const bool few = found.error().code() == base::Code::no_trusted_keys;
    if (!said)
      findings.push_back({"app " + app, few ? Health::limited : Health::broken,
                          found.error().line(), found.error().hint()});
  }
  check_users(session, findings);
}

}  // namespace updagent::cli
