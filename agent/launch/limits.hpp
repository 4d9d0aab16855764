// Names of resource limits, as setrlimit(2) has them without RLIMIT_: "nofile".
#pragma once

#include <sys/resource.h>

#include <string>

namespace updagent::launch {

struct ResourceLimit {
  int resource = 0;  // RLIMIT_NOFILE ...
  rlim_t soft = 0;   // RLIM_INFINITY: no limit
  rlim_t hard = 0;
};

std::string resource_name(int resource);  // its number when it has no name here

}  // namespace updagent::launch
