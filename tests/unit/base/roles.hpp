// What this test binary does when a test starts it as another process (main.cpp): failpoints are
// read from the environment once per process, and locks are held by processes.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "agent/base/child_process.hpp"

namespace updagent::test {

// Exit status 0 when the role's calls succeed; their error's line on stdout otherwise.
inline base::ChildResult run_role(const std::vector<std::string>& words,
                                  const std::map<std::string, std::string>& environment = {}) {
  base::ChildSpec spec;
  spec.argv = {"/proc/self/exe", "--role"};
  spec.argv.insert(spec.argv.end(), words.begin(), words.end());
  for (const auto& [name, value] : environment) spec.environment.push_back(name + "=" + value);
  auto result = base::run_child(spec, nullptr);
  if (result) return *result;
  base::ChildResult failed;
  failed.output = result.error().line();
  return failed;
}

}  // namespace updagent::test
