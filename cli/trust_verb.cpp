// trust add, list, remove: the keys of this node.
#include <sys/stat.h>
#include <unistd.h>

#include <memory>

#include "agent/base/files.hpp"
#include "agent/base/text.hpp"
#include "agent/release/semver.hpp"
#include "agent/trust/trust.hpp"
#include "cli/journal_access.hpp"
#include "cli/verbs.hpp"

namespace updagent::cli {
namespace {

using base::Code;
using base::Error;
using base::Exit;

struct TrustOptions {
  std::string file;
  std::string app;
  std::string name;
  std::string key;
};

std::string folder_of(const Session& session, const std::string& app) {
  return session.layout().trust() + (app.empty() ? "" : "/" + app);
}

std::string stem_of(const std::string& path) {
  std::string name = path.substr(path.find_last_of('/') + 1);
  if (name.ends_with(".pub")) name.resize(name.size() - 4);
  return name;
}

void record(Session& session, std::string_view event, const std::string& app,
            const trust::PublicKey& key) {
  auto journal = open_to_write(session);
  const journal::EventDraft draft =
      node_event(event, app, {{"name", key.name}, {"key_id", key.key_id}});
  const base::Status recorded =
      journal ? journal->record(std::span(&draft, 1)) : base::Status(journal.error());
  if (!recorded)
    session.warning("the audit log does not have this change: " + recorded.error().line());
}

Json key_json(const trust::PublicKey& key, const std::string& app) {
  return {{"name", key.name},
          {"key_id", key.key_id},
          {"type", trust::key_type_name(key.type)},
          {"app", app.empty() ? Json(nullptr) : Json(app)},
          {"path", key.path}};
}

base::Result<trust::PublicKey> add_key(Session& session, const TrustOptions& options) {
  if (!options.app.empty() && !release::is_app_name(options.app))
    return Error(Code::usage, "this is no app name").got("'" + options.app + "'");
  UPD_ASSIGN(const std::string pem, base::read_file(options.file, trust::kMaxKeyFileBytes));
  const std::string name = options.name.empty() ? stem_of(options.file) : options.name;
  UPD_TRY(trust::check_key_name(name));
  UPD_ASSIGN(trust::PublicKey key, trust::parse_public_key(pem, name, options.file));
  const std::string folder = folder_of(session, options.app);
  const base::Status made = base::make_directories(folder, 0755);
  if (!made)
    return Error(Code::root_not_writable, made.error().line())
        .hint("run it with sudo, or give a root folder of your own: --root DIR");
  key.path = folder + "/" + name + ".pub";
  if (base::exists(key.path)) {
    UPD_ASSIGN(const std::string there, base::read_file(key.path, trust::kMaxKeyFileBytes));
    const auto same = trust::parse_public_key(there, name, key.path);
    if (!same || same->key_id != key.key_id)
      return Error(Code::usage, "another key is trusted under the name '" + name + "' already")
          .hint("updagent trust remove " + name +
                (options.app.empty() ? "" : " --app " + options.app) +
                ", or give this one another --name");
  }
  // what is written is the key that was read, in one canonical form
  UPD_ASSIGN(const std::string canonical, trust::public_key_pem(key));
  const base::Status written = base::write_file_durably(key.path, canonical, 0644);
  if (!written)
    return Error(Code::root_not_writable, written.error().line())
        .hint("run it with sudo, or give a root folder of your own: --root DIR");
  return key;
}

Exit run_add(Session& session, const TrustOptions& options) {
  const auto key = add_key(session, options);
  if (!key) return session.fail(key.error());
  record(session, "trust.added", options.app, *key);
  session.document(key_json(*key, options.app));
  session.print(session.good("trusted") + "  " + key->name + " (" +
                std::string(trust::key_type_name(key->type)) + ") for " +
                (options.app.empty() ? "every app" : "'" + options.app + "' alone") + "  -> " +
                key->path);
  session.print("fingerprint  " + trust::fingerprint(key->key_id) +
                "   compare it with its owner's");
  return Exit::done;
}

// Every folder with keys: "" for all apps, then one per app.
base::Result<std::vector<std::string>> folders(Session& session) {
  constexpr std::size_t kMaxFolders = 10'000;
  std::vector<std::string> apps = {""};
  if (!base::exists(session.layout().trust())) return apps;
  UPD_ASSIGN(const auto names, base::list_directory(session.layout().trust(), kMaxFolders));
  for (const std::string& name : names) {
    struct stat about{};
    const std::string path = session.layout().trust() + "/" + name;
    if (::stat(path.c_str(), &about) != 0 || !S_ISDIR(about.st_mode)) continue;
    if (release::is_app_name(name))
      apps.push_back(name);
    else
      session.note("'" + path + "' is no app's name: what is in it counts for nothing");
  }
  return apps;
}

base::Result<std::vector<trust::PublicKey>> keys_in(Session& session, const std::string& app) {
  if (!base::exists(folder_of(session, app))) return std::vector<trust::PublicKey>();
  UPD_ASSIGN(trust::TrustSet set, trust::load_trust(session.layout().trust(), app, 1));
  // a folder without keys of its own falls back to the keys for all: those are listed there
  const std::string folder = folder_of(session, app) + "/";
  std::erase_if(set.keys, [&](const trust::PublicKey& key) {
    return key.path.substr(0, key.path.find_last_of('/') + 1) != folder;
  });
  return std::move(set.keys);
}

Exit run_list(Session& session) {
  const auto apps = folders(session);
  if (!apps) return session.fail(apps.error());
  Json list = Json::array();
  for (const std::string& app : *apps) {
    const auto keys = keys_in(session, app);
    if (!keys) return session.fail(keys.error());
    for (const trust::PublicKey& key : *keys) {
      list.push_back(key_json(key, app));
      std::string name = base::printable(key.name);
      name.resize(std::max<std::size_t>(name.size(), 16), ' ');
      session.print(name + "  " + std::string(trust::key_type_name(key.type)) + "  " +
                    (app.empty() ? "every app" : app + " alone") + "  " +
                    trust::fingerprint(key.key_id));
    }
  }
  if (list.empty()) session.print("no key is trusted: updagent trust add KEY.pub");
  session.document({{"keys", list}});
  return Exit::done;
}

// An app without keys of its own takes releases of those who may sign for every app.
Json warn_of_general_keys(Session& session, const std::string& app) {
  Json list = Json::array();
  const auto general = keys_in(session, "");
  if (!general) {
    session.warning("'" + app +
                    "' has no keys of its own any more, and those for every app can't be "
                    "read: " +
                    general.error().line());
    return list;
  }
  std::vector<std::string> names;
  for (const trust::PublicKey& key : *general) {
    list.push_back(key_json(key, ""));
    names.push_back(key.name + " (" + trust::fingerprint(key.key_id) + ")");
  }
  session.warning("this was the last key of '" + app + "' alone: " +
                  (names.empty() ? "no key is trusted for it now"
                                 : "from now on the keys for every app count for it: " +
                                       base::join(names, ", ")));
  return list;
}

Exit run_remove(Session& session, const TrustOptions& options) {
  const auto keys = keys_in(session, options.app);
  if (!keys) return session.fail(keys.error());
  for (const trust::PublicKey& key : *keys) {
    if (key.name != options.key && key.key_id != options.key) continue;
    const auto folder = base::open_directory(folder_of(session, options.app));
    if (!folder) return session.fail(folder.error());
    const base::Status removed =
        base::remove_file_durably(folder->get(), key.path.substr(key.path.find_last_of('/') + 1));
    if (!removed) return session.fail(removed.error());
    record(session, "trust.removed", options.app, key);
    Json document = key_json(key, options.app);
    if (!options.app.empty() && keys->size() == 1)
      document["now_trusted"] = warn_of_general_keys(session, options.app);
    session.document(document);
    session.print("no longer trusted  " + base::printable(key.name) + "  " +
                  trust::fingerprint(key.key_id));
    return Exit::done;
  }
  return session.fail(
      Error(Code::not_found, "no trusted key has the name or id '" + options.key + "'")
          .hint("updagent trust list"));
}

}  // namespace

Run setup_trust(CLI::App& command) {
  const auto options = std::make_shared<TrustOptions>();
  CLI::App* add = command.add_subcommand("add", "trust a key");
  add->add_option("FILE", options->file, "public key (SPKI PEM)")->required();
  add->add_option("--app", options->app, "only for this app, and instead of the keys for all")
      ->type_name("APP");
  add->add_option("--name", options->name, "other than the file's")->type_name("NAME");
  CLI::App* list = command.add_subcommand("list", "list the trusted keys");
  CLI::App* remove = command.add_subcommand("remove", "trust a key no longer");
  remove->add_option("KEY", options->key, "name or key id")->required();
  remove->add_option("--app", options->app, "from this app's keys")->type_name("APP");
  for (CLI::App* sub : {add, list, remove}) sub->fallthrough();
  command.require_subcommand(1);
  return [options, add, list](Session& session) {
    if (add->parsed()) return run_add(session, *options);
    if (list->parsed()) return run_list(session);
    return run_remove(session, *options);
  };
}

}  // namespace updagent::cli
