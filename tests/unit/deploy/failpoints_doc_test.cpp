// docs/failpoints.md lists the failpoints that the sources have, no more and no less.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "agent/deploy/state_table.hpp"
#include "tests/unit/deploy/read_text.hpp"

namespace updagent::deploy {
namespace {

namespace fs = std::filesystem;

// Adds the literals that stand first in calls of `call`. One that ends in a dot is completed when
// it runs; the document writes such a name with a star.
void collect(const std::string& text, std::string_view call, std::set<std::string>& names) {
  for (std::size_t at = text.find(call); at != std::string::npos; at = text.find(call, at + 1)) {
    const std::size_t quote = text.find_first_not_of(" \n", at + call.size());
    if (quote == std::string::npos || text[quote] != '"') continue;
    const std::size_t end = text.find('"', quote + 1);
    if (end == std::string::npos) continue;
    std::string name = text.substr(quote + 1, end - quote - 1);
    if (name.ends_with('.')) name += '*';
    names.insert(std::move(name));
  }
}

std::set<std::string> names_in_sources() {
  std::set<std::string> names;
  for (const char* folder : {"/agent", "/cli"}) {
    for (const auto& entry :
         fs::recursive_directory_iterator(std::string(UPDAGENT_SOURCE_DIR) + folder)) {
      const std::string extension = entry.path().extension().string();
      if (extension != ".cpp" && extension != ".hpp") continue;
      const std::string text = testing::read_text(entry.path().string());
      // errno_of() of base/files.cpp hands its first argument to failpoint::fail()
      for (const char* call : {"failpoint::hit(", "failpoint::fail(", "errno_of("})
        collect(text, call, names);
    }
  }
  return names;
}

// First column of the tables: | `name` | ...
std::vector<std::string> names_in_docs() {
  const std::string text = testing::read_text(UPDAGENT_SOURCE_DIR "/docs/failpoints.md");
  const std::string opening = "\n| `";
  std::vector<std::string> names;
  for (std::size_t at = text.find(opening); at != std::string::npos;
       at = text.find(opening, at + 1)) {
    const std::size_t start = at + opening.size();
    names.push_back(text.substr(start, text.find('`', start) - start));
  }
  return names;
}

TEST(FailpointsDoc, Lists_every_failpoint_of_the_sources_and_no_other) {
  const std::vector<std::string> listed = names_in_docs();
  const std::set<std::string> in_sources = names_in_sources();
  EXPECT_FALSE(in_sources.empty());
  EXPECT_EQ(std::set<std::string>(listed.begin(), listed.end()), in_sources);
}

TEST(FailpointsDoc, Lists_each_failpoint_once) {
  const std::vector<std::string> listed = names_in_docs();
  for (const std::string& name : listed)
    EXPECT_EQ(std::count(listed.begin(), listed.end(), name), 1) << name;
}

TEST(FailpointsDoc, Spells_out_the_states_that_begin_and_end_have) {
  const std::string text = testing::read_text(UPDAGENT_SOURCE_DIR "/docs/failpoints.md");
  std::string states;
  for (const Row& row : state_table()) {
    if ((row.strategies & kFiles) == 0 || row.state == State::closed) continue;
    if (!states.empty()) states += ", ";
    states += "`" + std::string(state_name(row.state)) + "`";
  }
  EXPECT_NE(text.find("STATE is one of " + states), std::string::npos) << states;
}

}  // namespace
}  // namespace updagent::deploy
