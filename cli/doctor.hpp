// What doctor found about one thing, and what is looked at of the apps.
#pragma once

#include <string>
#include <vector>

#include "cli/session.hpp"

namespace updagent::cli {

enum class Health { good, limited, broken };

struct Finding {
  std::string what;
  Health health = Health::good;
  std::string found;
  std::string mend;  // "" when good
};

// What `apply` of each would stumble over, and which of them could harm each other.
void check_apps(Session& session, std::vector<Finding>& findings);

}  // namespace updagent::cli
