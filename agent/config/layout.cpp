#include <filesystem>
#include <system_error>

#include "agent/config/settings.hpp"

namespace updagent::config {
namespace {

std::string absolute(const std::string& path) {
  std::error_code failed;
  const auto whole = std::filesystem::absolute(path, failed);
  // without a working directory a relative path means nothing: its first use will say so
  std::string text = failed ? path : whole.lexically_normal().string();
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  return text;
}

}  // namespace

Layout Layout::for_root(const std::optional<std::string>& root,
                        const std::optional<std::string>& config_file) {
  Layout layout{"/var/lib/updagent", "/run/updagent", "/etc/updagent", false, ""};
  if (root) {
    const std::string top = absolute(*root);
    const std::string below = top == "/" ? "" : top;
    layout = {top, below + "/run", below + "/etc", true, ""};
  }
  layout.trust_folder = layout.etc + "/trust.d";
  if (config_file)
    layout.etc = std::filesystem::path(absolute(*config_file)).parent_path().string();
  return layout;
}

}  // namespace updagent::config
