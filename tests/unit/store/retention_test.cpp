#include <gtest/gtest.h>

#include "agent/store/store.hpp"

namespace updagent::store {
namespace {

using Names = std::vector<std::string>;

struct Case {
  const char* what;
  std::vector<Candidate> releases;
  int keep;
  Names protected_versions;
  Names expected;
};

TEST(Retention, What_may_go) {
  const std::vector<Candidate> five = {{"1", "good", 10},
                                       {"2", "good", 20},
                                       {"3", "failed", 30},
                                       {"4", "good", 40},
                                       {"5", "good", 50}};
  const std::vector<Case> cases = {
      {"nothing to remove", {{"1", "good", 1}, {"2", "good", 2}}, 3, {}, {}},
      {"failed ones don't count as good ones", five, 3, {}, {"3", "1"}},
      {"failed ones go even with room", five, 10, {}, {"3"}},
      {"oldest good ones first", five, 1, {}, {"3", "1", "2", "4"}},
      {"a protected good one stays and counts", five, 1, {"5"}, {"3", "1", "2", "4"}},
      {"an old protected one stays on top of the newest", five, 2, {"1"}, {"3", "2"}},
      {"a protected failed one stays", five, 10, {"3"}, {}},
      {"staged ones go, oldest first",
       {{"2", "staged", 20}, {"1", "failed", 30}},
       3,
       {},
       {"2", "1"}},
      {"an unknown state is left alone", {{"1", "odd", 1}, {"2", "good", 2}}, 0, {}, {"2"}},
      {"equal times: the name decides", {{"1", "good", 7}, {"2", "good", 7}}, 1, {}, {"1"}},
      {"nothing at all", {}, 3, {"1"}, {}},
  };
  for (const Case& one : cases)
    EXPECT_EQ(plan_retention(one.releases, one.keep, one.protected_versions), one.expected)
        << one.what;
}

}  // namespace
}  // namespace updagent::store
