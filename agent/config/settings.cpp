#include "agent/config/settings.hpp"

#include <unistd.h>

#include <array>

#include "agent/base/files.hpp"
#include "agent/base/guarded_file.hpp"
#include "agent/config/fragment.hpp"

namespace updagent::config {
namespace {

using base::Code;
using base::Error;
using base::Guard;
using base::Result;
using base::Status;

constexpr Guard kGuard{Code::config_invalid, base::kOthersMayWrite, false};
constexpr std::size_t kMaxFolderNames = 4096;  // what else may lie in conf.d: README, backups

std::string host_name() {
  std::array<char, 256> name{};  // HOST_NAME_MAX is 64
  if (::gethostname(name.data(), name.size() - 1) != 0 || name[0] == '\0') return "localhost";
  return name.data();
}

std::string folder_of(const std::string& file) {
  const std::size_t slash = file.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : file.substr(0, slash);
}

// Nothing happens when there is no such file, unless it was `required`.
Status read_fragment(const std::string& file, Scope scope, bool required, Settings& settings) {
  UPD_ASSIGN(const auto content, base::read_guarded_file(file, kGuard, kMaxFragmentBytes));
  if (!content) {
    if (!required) return base::ok();
    return Error(Code::config_invalid, "there is no configuration file '" + file + "'");
  }
  if (settings.sources.size() == kMaxFragments)
    return Error(Code::config_invalid, "too many configuration files, at '" + file + "'")
        .expected("at most " + std::to_string(kMaxFragments))
        .got("more");
  UPD_TRY(apply_fragment(file, *content, scope, settings));
  settings.sources.push_back(file);
  return base::ok();
}

// *.toml in byte order of the names. Hidden files are an editor's or half-written.
Status read_folder(const std::string& folder, Settings& settings) {
  UPD_ASSIGN(const bool there, base::check_guarded_directory(folder, kGuard));
  if (!there) return base::ok();
  auto names = base::list_directory(folder, kMaxFolderNames);
  if (!names) return Error(Code::config_invalid, names.error().message());
  for (const std::string& name : *names) {
    if (name.front() == '.' || !name.ends_with(".toml")) continue;
    UPD_TRY(
        read_fragment(std::string(folder).append("/").append(name), Scope::node, true, settings));
  }
  return base::ok();
}

Status read_app(const std::string& folder, const std::string& app, Settings& settings) {
  // it becomes part of a path; whether there can be such an app is not ours to say
  if (app.front() == '.' || app.find('/') != std::string::npos ||
      app.find('\0') != std::string::npos)
    return Error(Code::usage, "'" + app + "' is no name for an app");
  UPD_TRY(base::check_guarded_directory(folder, kGuard));
  return read_fragment(folder + "/" + app + ".toml", Scope::app, false, settings);
}

// What no single key can tell.
Status check_together(const Settings& settings) {
  if (!settings.fetch.client_key.empty() && settings.fetch.client_certificate.empty())
    return Error(Code::config_invalid, "'fetch.client_key' is set without its certificate")
        .expected("'fetch.client_certificate' too")
        .got("none");
  if (!settings.fetch.netrc_file.empty() && !settings.fetch.netrc)
    return Error(Code::config_invalid, "'fetch.netrc_file' is set but not used")
        .expected("fetch.netrc = true")
        .got("false");
  if (settings.app.default_user.empty())
    return Error(Code::config_invalid, "'run.default_user' is empty")
        .expected("a user's name")
        .got("\"\"");
  return base::ok();
}

}  // namespace

Settings defaults() {
  Settings settings;
  settings.node_name = host_name();
  return settings;
}

Result<Settings> load(const Layout& layout, const std::optional<std::string>& config_file,
                      const std::string& app) {
  const std::string folder = config_file ? folder_of(*config_file) : layout.etc;
  Settings settings;
  // whoever can rename node.toml or conf.d can put another in its place
  UPD_TRY(base::check_guarded_directory(folder, kGuard, true));
  UPD_TRY(read_fragment(config_file ? *config_file : folder + "/node.toml", Scope::node,
                        config_file.has_value(), settings));
  UPD_TRY(read_folder(folder + "/conf.d", settings));
  if (!app.empty()) UPD_TRY(read_app(folder + "/apps.d", app, settings));
  UPD_TRY(check_together(settings));
  if (settings.node_name.empty()) settings.node_name = host_name();
  return settings;
}

}  // namespace updagent::config
