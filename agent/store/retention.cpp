#include <algorithm>

#include "agent/store/store.hpp"

namespace updagent::store {
namespace {

bool is_newer(const Candidate& a, const Candidate& b) {
  return a.installed_us != b.installed_us ? a.installed_us > b.installed_us : a.version > b.version;
}

}  // namespace

std::vector<std::string> plan_retention(std::vector<Candidate> releases, int keep,
                                        const std::vector<std::string>& protected_versions) {
  std::sort(releases.begin(), releases.end(), is_newer);
  std::vector<std::string> failed;
  std::vector<std::string> surplus;
  int good_seen = 0;
  for (const Candidate& one : releases) {
    const bool is_good = one.state == "good";
    const bool is_past = is_good && ++good_seen > keep;  // protected ones count as kept
    if (std::find(protected_versions.begin(), protected_versions.end(), one.version) !=
        protected_versions.end())
      continue;
    // a state that we don't know is not ours to remove
    if (one.state == "failed" || one.state == "staged") failed.push_back(one.version);
    if (is_past) surplus.push_back(one.version);
  }
  std::reverse(failed.begin(), failed.end());  // oldest first
  std::reverse(surplus.begin(), surplus.end());
  failed.insert(failed.end(), surplus.begin(), surplus.end());
  return failed;
}

}  // namespace updagent::store
