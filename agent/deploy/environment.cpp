#include "agent/deploy/environment.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <map>

#include "agent/base/child_process.hpp"
#include "agent/base/files.hpp"

namespace updagent::deploy {
namespace {

constexpr mode_t kFolderMode = 0750;

// A folder that belongs to the commands' user; its contents are never touched by us. Made once: an
// operator may have changed the owner since, and knows why. It gets its name when it has its owner,
// so that a killed run leaves none that nobody can use.
base::Status prepare_folder(const std::string& path, const std::optional<base::Identity>& owner) {
  if (base::exists(path)) return base::ok();
  const std::size_t slash = path.find_last_of('/');
  const std::string parent = path.substr(0, slash);
  const std::string name = path.substr(slash + 1);
  const std::string made = "." + name + ".new";
  UPD_TRY(base::make_directories(parent, 0755));
  UPD_ASSIGN(const base::UniqueFd at, base::open_directory(parent));
  UPD_TRY(base::remove_tree(at.get(), made));
  UPD_TRY(base::make_directory_at(at.get(), made, 0700));
  UPD_ASSIGN(const base::UniqueFd folder,
             base::open_beneath(at.get(), made, O_RDONLY | O_DIRECTORY));
  if (owner && ::fchown(folder.get(), owner->uid, owner->gid) != 0)
    return base::system_error(errno, "cannot give '" + path + "' to '" + owner->user + "'");
  if (::fchmod(folder.get(), kFolderMode) != 0)
    return base::system_error(errno, "cannot chmod '" + path + "'");
  return base::rename_durably(at.get(), made, at.get(), name, true);
}

bool is_ours(const std::string& name) {
  return name.starts_with("UPDAGENT_") || name == "TRACEPARENT" || name.ends_with("_DIRECTORY");
}

}  // namespace

base::Result<RuntimePlace> prepare_place(store::AppStore& store, const config::Layout& layout,
                                         const std::string& version, const std::string& user) {
  RuntimePlace place;
  place.version = version;
  place.release_directory = store.path(version);
  place.current_link = store.directory() + "/current";
  place.data = layout.data(store.name());
  place.cache = layout.app(store.name()) + "/cache";
  place.runtime = layout.runtime + "/" + store.name();
  if (!user.empty()) {
    UPD_ASSIGN(place.identity, base::identity_of_user(user));
  }
  UPD_TRY(store.prepare_data(place.identity ? *place.identity : base::own_identity()));
  UPD_TRY(prepare_folder(place.cache, place.identity));
  UPD_TRY(prepare_folder(place.runtime, place.identity));
  return place;
}

base::Result<std::vector<std::string>> command_environment(const CommandContext& context,
                                                           const RuntimePlace& place,
                                                           const release::Manifest& manifest,
                                                           const config::AppSettings& settings) {
  const base::Identity self = place.identity ? *place.identity : base::own_identity();
  std::map<std::string, std::string> variables = {
      {"PATH", base::kSafePath},
      {"LANG", "C.UTF-8"},
      {"HOME", self.home.empty() ? "/" : self.home},
      {"USER", self.user},
      {"LOGNAME", self.user},
  };
  const auto layer = [&variables](const auto& pairs) {
    for (const auto& [name, value] : pairs)
      if (!is_ours(name)) variables[name] = value;
  };
  layer(manifest.environment);
  layer(settings.environment);
  for (const std::string& file : settings.environment_files) {
    UPD_ASSIGN(const auto secrets, config::read_environment_file(file));
    layer(secrets);
  }
  variables["UPDAGENT_TRACE_ID"] = context.trace_id;
  variables["TRACEPARENT"] = "00-" + context.trace_id + "-" + context.span_id + "-01";
  variables["UPDAGENT_APP"] = context.app;
  variables["UPDAGENT_VERSION"] = place.version;
  variables["UPDAGENT_FROM_VERSION"] = context.from;
  variables["UPDAGENT_TO_VERSION"] = context.to;
  variables["UPDAGENT_PHASE"] = context.phase;
  variables["UPDAGENT_HOOK"] = context.hook;
  variables["UPDAGENT_RELEASE_DIRECTORY"] = place.release_directory;
  variables["UPDAGENT_CURRENT"] = place.current_link;
  variables["STATE_DIRECTORY"] = place.data;
  variables["CACHE_DIRECTORY"] = place.cache;
  variables["RUNTIME_DIRECTORY"] = place.runtime;
  std::vector<std::string> list;
  list.reserve(variables.size());
  for (const auto& [name, value] : variables)
    list.push_back(std::string(name).append("=").append(value));
  return list;
}

}  // namespace updagent::deploy
