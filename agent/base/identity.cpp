#include "agent/base/identity.hpp"

#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace updagent::base {
namespace {

constexpr std::size_t kNssBuffer = 64 * 1024;  // long enough for the group lists of directories
constexpr int kMaxGroups = 1024;

bool may_enter(const Identity& identity, const struct stat& folder) {
  if (identity.uid == 0) return true;
  if (folder.st_uid == identity.uid) return (folder.st_mode & S_IXUSR) != 0;
  const bool of_group = folder.st_gid == identity.gid ||
                        std::find(identity.groups.begin(), identity.groups.end(), folder.st_gid) !=
                            identity.groups.end();
  return (folder.st_mode & (of_group ? S_IXGRP : S_IXOTH)) != 0;
}

}  // namespace

std::string folder_closed_to(const Identity& identity, const std::string& path) {
  for (std::size_t end = path.find('/'); !path.empty(); end = path.find('/', end + 1)) {
    const std::string folder = path.substr(0, end == 0 ? 1 : end);
    struct stat about{};
    if (::stat(folder.c_str(), &about) == 0 && !may_enter(identity, about)) return folder;
    if (end == std::string::npos) break;
  }
  return "";
}

Result<Identity> identity_of_user(const std::string& name) {
  passwd entry{};
  passwd* found = nullptr;
  std::string buffer(kNssBuffer, '\0');
  const int failed = ::getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (failed != 0) return system_error(failed, "cannot look up the user '" + name + "'");
  if (found == nullptr)
    return Error(Code::config_invalid, "the user '" + name + "' does not exist on this node")
        .hint("create it (adduser --system " + name + "), or name another one in apps.d/APP.toml");
  Identity identity{name, entry.pw_uid, entry.pw_gid, {}, entry.pw_dir};
  int count = kMaxGroups;
  identity.groups.resize(kMaxGroups);
  if (::getgrouplist(name.c_str(), entry.pw_gid, identity.groups.data(), &count) < 0)
    return Error(Code::config_invalid, "the user '" + name + "' is in too many groups")
        .expected("at most " + std::to_string(kMaxGroups));
  identity.groups.resize(static_cast<std::size_t>(count));
  return identity;
}

Result<gid_t> gid_of_group(const std::string& name) {
  group entry{};
  group* found = nullptr;
  std::string buffer(kNssBuffer, '\0');
  const int failed = ::getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (failed != 0) return system_error(failed, "cannot look up the group '" + name + "'");
  if (found == nullptr)
    return Error(Code::config_invalid, "the group '" + name + "' does not exist on this node")
        .hint("create it (addgroup --system " + name + "), or name another one");
  return entry.gr_gid;
}

Identity own_identity() {
  Identity identity;
  identity.uid = ::geteuid();
  identity.gid = ::getegid();
  passwd entry{};
  passwd* found = nullptr;
  std::string buffer(kNssBuffer, '\0');
  if (::getpwuid_r(identity.uid, &entry, buffer.data(), buffer.size(), &found) == 0 &&
      found != nullptr) {
    identity.user = entry.pw_name;
    identity.home = entry.pw_dir;
  }
  return identity;
}

}  // namespace updagent::base
