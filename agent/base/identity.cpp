#include "agent/base/identity.hpp"

#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include <cerrno>

namespace updagent::base {
namespace {

constexpr std::size_t kNssBuffer = 64 * 1024;  // long enough for the group lists of directories
constexpr int kMaxGroups = 1024;

}  // namespace

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
