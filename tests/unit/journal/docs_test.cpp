// docs/audit.md says what the code does.
#include <gtest/gtest.h>

#include <set>

#include "agent/journal/event_names.hpp"
#include "tests/unit/journal/support.hpp"

namespace updagent::journal::testing {
namespace {

std::string docs() {
  return read_text(UPDAGENT_SOURCE_DIR "/docs/audit.md");
}

std::string section(const std::string& title) {
  const std::string text = docs();
  const std::size_t start = text.find("\n## " + title + "\n");
  if (start == std::string::npos) return "";
  return text.substr(start, text.find("\n## ", start + 1) - start);
}

// First column of a table: | `name` | ...
std::vector<std::string> names_in(const std::string& text) {
  std::vector<std::string> names;
  const std::string opening = "\n| `";
  for (std::size_t at = text.find(opening); at != std::string::npos;
       at = text.find(opening, at + 1)) {
    const std::size_t start = at + opening.size();
    names.push_back(text.substr(start, text.find('`', start) - start));
  }
  return names;
}

TEST(AuditDocs, List_every_event_with_its_meaning) {
  const std::string text = section("Events");
  std::vector<std::string> names;
  for (const EventName& event : kEventNames) {
    names.emplace_back(event.name);
    const std::string row =
        "| `" + std::string(event.name) + "` | " + std::string(event.meaning) + " |";
    EXPECT_NE(text.find(row), std::string::npos) << row;
  }
  EXPECT_EQ(names_in(text), names);
}

TEST(AuditDocs, List_every_field_that_is_printed) {
  std::set<std::string> printed;
  const Json event = to_json(Event{});
  for (const auto& [name, value] : event.items()) printed.insert(name);
  const auto listed = names_in(section("Fields"));
  EXPECT_EQ(std::set<std::string>(listed.begin(), listed.end()), printed);
}

TEST(AuditDocs, Have_an_example_whose_hash_can_be_computed_again) {
  Event event{sample_event(), 1, "node-1", {}, {}};
  const std::string bytes = canonical(event);
  const std::string text = section("The chain");
  EXPECT_NE(text.find("\n" + bytes + "\n"), std::string::npos) << bytes;
  EXPECT_NE(text.find(base::sha256(bytes).hex()), std::string::npos) << base::sha256(bytes).hex();
}

}  // namespace
}  // namespace updagent::journal::testing
