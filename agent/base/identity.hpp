// Who a command runs as.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "agent/base/error.hpp"

namespace updagent::base {

struct Identity {
  std::string user;  // "" when the uid has no name
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;  // supplementary
  std::string home;
};

// By name through NSS; Code::config_invalid when there is no such user.
Result<Identity> identity_of_user(const std::string& name);
// Code::config_invalid when there is no such group.
Result<gid_t> gid_of_group(const std::string& name);
// The first folder on the way to `path`, itself included, whose mode keeps this identity out; "" if
// none does. Symlinks are followed; what an ACL allows beside the mode is not seen.
std::string folder_closed_to(const Identity& identity, const std::string& path);
// The process's own.
Identity own_identity();

}  // namespace updagent::base
