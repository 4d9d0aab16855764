// docs/states.md has the table exactly as the code prints it.
#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "agent/deploy/state_table.hpp"
#include "tests/unit/deploy/read_text.hpp"

namespace updagent::deploy {
namespace {

constexpr std::string_view kBegin = "<!-- states:begin -->\n";
constexpr std::string_view kEnd = "<!-- states:end -->";

TEST(StatesDoc, Has_the_table_that_the_code_prints) {
  const std::string text = testing::read_text(UPDAGENT_SOURCE_DIR "/docs/states.md");
  const std::size_t begin = text.find(kBegin);
  ASSERT_NE(begin, std::string::npos) << "docs/states.md lacks its first marker";
  const std::size_t first = begin + kBegin.size();
  const std::size_t end = text.find(kEnd, first);
  ASSERT_NE(end, std::string::npos) << "docs/states.md lacks its second marker";
  EXPECT_EQ(text.substr(first, end - first), states_markdown());
}

TEST(StatesDoc, Names_every_state_in_its_diagram) {
  const std::string text = testing::read_text(UPDAGENT_SOURCE_DIR "/docs/states.md");
  const std::size_t begin = text.find("```\n");
  ASSERT_NE(begin, std::string::npos);
  const std::string diagram = text.substr(begin, text.find("\n```", begin + 1) - begin);
  for (const Row& row : state_table()) {
    if ((row.strategies & kFiles) == 0) continue;
    EXPECT_NE(diagram.find(state_name(row.state)), std::string::npos) << state_name(row.state);
  }
}

}  // namespace
}  // namespace updagent::deploy
