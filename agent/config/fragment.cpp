#include "agent/config/fragment.hpp"

#include <algorithm>

#include "agent/base/text.hpp"
#include "agent/config/value_reader.hpp"

namespace updagent::config {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::Status;

struct Fragment {
  const std::string& file;
  Scope scope;
  Settings& settings;
};

template <class Target>
const Key<Target>* find_key(std::span<const Key<Target>> keys, std::string_view path) {
  const auto found = std::find_if(keys.begin(), keys.end(),
                                  [&](const Key<Target>& key) { return key.rule.path == path; });
  return found == keys.end() ? nullptr : &*found;
}

bool is_table_of_keys(const std::string& path) {
  const auto keys = setting_keys();
  return std::any_of(keys.begin(), keys.end(), [&](const Key<Settings>& key) {
    return key.rule.path.starts_with(path + ".");
  });
}

std::string last_part(std::string_view path) {
  return std::string(path.substr(path.find_last_of('.') + 1));
}

// The same name in another table first (a key under the wrong heading), then the nearest spelling.
std::optional<std::string> suggestion(const std::string& path) {
  std::vector<std::string> known;
  for (const KeyInfo& key : all_keys()) {
    if (last_part(key.path) == last_part(path)) return key.path;
    known.push_back(key.path);
    known.push_back(key.path.substr(0, key.path.find('.')));  // its table
  }
  return base::nearest(path, known);
}

Error unknown_key(const Fragment& fragment, const toml::key& key, const std::string& path) {
  Error error(Code::config_invalid,
              place(fragment.file, key.source()) + "unknown key '" + path + "'");
  if (const auto near = suggestion(path))
    return std::move(error).hint("did you mean '" + *near + "'?");
  return std::move(error).hint("docs/configuration.md lists every key");
}

Status check_notification(const Fragment& fragment, const toml::node& node,
                          const Notification& one) {
  const auto wrong = [&](const std::string& what) {
    return Error(Code::config_invalid, place(fragment.file, node.source()) + "[[notify]] " + what);
  };
  const auto& known = fragment.settings.notifications;
  if (one.name.empty()) return wrong("without a name").expected("name = \"...\"");
  if (std::any_of(known.begin(), known.end(),
                  [&](const Notification& other) { return other.name == one.name; }))
    return wrong("'" + one.name + "' stands twice").expected("a name of its own");
  if (one.webhook.empty() == one.command.empty())
    return wrong("'" + one.name + "' needs one way to tell")
        .expected("either webhook or command")
        .got(one.webhook.empty() ? "neither" : "both");
  if (one.on.empty())
    return wrong("'" + one.name + "' tells nothing")
        .expected("on = one or more of " + base::join(known_outcomes(), ", "))
        .got("an empty list");
  if (!one.bearer_token_file.empty() && one.webhook.empty())
    return wrong("'" + one.name + "' has a bearer_token_file without a webhook");
  return base::ok();
}

Status read_notification(const Fragment& fragment, const toml::table& table) {
  Notification one;
  for (const auto& [name, node] : table) {
    const std::string path = std::string(kNotifyTable) + "." + std::string(name.str());
    const auto* key = find_key(notification_keys(), name.str());
    if (key == nullptr) return unknown_key(fragment, name, path);
    UPD_TRY(read_value(fragment.file, node, key->rule, path, key->slot(one)));
  }
  UPD_TRY(check_notification(fragment, table, one));
  fragment.settings.notifications.push_back(std::move(one));
  return base::ok();
}

Status read_notifications(const Fragment& fragment, const toml::node& node) {
  const auto* list = node.as_array();
  const bool tables =
      list != nullptr &&
      std::all_of(list->begin(), list->end(), [](const auto& one) { return one.is_table(); });
  if (!tables)
    return Error(Code::config_invalid, place(fragment.file, node.source()) + "'notify' is no list")
        .expected("[[notify]]")
        .got(node.is_table() ? "[notify]" : "something else");
  if (fragment.settings.notifications.size() + list->size() > kMaxNotifications)
    return Error(Code::config_invalid, place(fragment.file, node.source()) + "too many [[notify]]")
        .expected("at most " + std::to_string(kMaxNotifications))
        .got("more");
  for (const toml::node& one : *list) UPD_TRY(read_notification(fragment, *one.as_table()));
  return base::ok();
}

Status read_key(const Fragment& fragment, const toml::node& node, const Key<Settings>& key,
                const std::string& path) {
  if (fragment.scope == Scope::app && key.rule.scope == Scope::node)
    return Error(Code::config_invalid, place(fragment.file, node.source()) + "'" + path +
                                           "' is a setting of the whole node, not of one app")
        .hint("put it into node.toml or a file of conf.d");
  return read_value(fragment.file, node, key.rule, path, key.slot(fragment.settings));
}

// Goes down into tables of known keys only, so no deeper than those.
Status read_table(const Fragment& fragment, const toml::table& table, const std::string& prefix) {
  for (const auto& [name, node] : table) {
    const std::string path = prefix + std::string(name.str());
    if (path == kNotifyTable) {
      UPD_TRY(read_notifications(fragment, node));
    } else if (const auto* key = find_key(setting_keys(), path)) {
      UPD_TRY(read_key(fragment, node, *key, path));
    } else if (!is_table_of_keys(path)) {
      return unknown_key(fragment, name, path);
    } else if (const auto* below = node.as_table()) {
      UPD_TRY(read_table(fragment, *below, path + "."));
    } else {
      return Error(Code::config_invalid,
                   place(fragment.file, node.source()) + "'" + path + "' has a wrong value")
          .expected("[" + path + "]")
          .got("no table");
    }
  }
  return base::ok();
}

Result<toml::table> parse(const std::string& file, const std::string& content) {
  try {
    return toml::parse(content);
  } catch (const toml::parse_error& problem) {
    return Error(Code::config_invalid, place(file, problem.source()) + "this is not valid TOML")
        .got(std::string(problem.description()));
  }
}

}  // namespace

Status apply_fragment(const std::string& file, const std::string& content, Scope scope,
                      Settings& settings) {
  UPD_ASSIGN(const toml::table table, parse(file, content));
  return read_table(Fragment{file, scope, settings}, table, "");
}

}  // namespace updagent::config
