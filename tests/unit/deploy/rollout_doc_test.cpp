// docs/rollout.md has a row with a default and a reason for every key of the schema that a rollout
// knows.
#include <gtest/gtest.h>

#include <algorithm>
#include <regex>
#include <string>
#include <vector>

#include "agent/base/strict_json.hpp"
#include "tests/unit/deploy/read_text.hpp"

namespace updagent::deploy {
namespace {

using base::Json;

const Json& schema() {
  static const Json kSchema =
      Json::parse(testing::read_text(UPDAGENT_SOURCE_DIR "/schema/manifest.schema.json"));
  return kSchema;
}

// As people write them: durations are texts.
std::vector<std::string> keys_of(const Json& properties) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : properties.items())
    keys.push_back(key.ends_with("_ms") ? key.substr(0, key.size() - 3) : key);
  EXPECT_FALSE(keys.empty());
  return keys;
}
std::vector<std::string> keys_of_a(const std::string& definition) {
  return keys_of(schema().at("$defs").at(definition).at("properties"));
}

struct Section {
  std::vector<std::string> names;  // the first cells of rows with all three
  bool has(const std::string& key) const {
    const std::regex word("(^|[^a-z_])" + key + "($|[^a-z_])");
    return std::ranges::any_of(
        names, [&](const std::string& cell) { return std::regex_search(cell, word); });
  }
};

// From this heading to the next one of the same or a higher level.
Section section(const std::string& heading) {
  static const std::string kText = testing::read_text(UPDAGENT_SOURCE_DIR "/docs/rollout.md");
  Section found;
  std::size_t at = kText.find("\n" + heading + "\n");
  EXPECT_NE(at, std::string::npos) << heading;
  if (at == std::string::npos) return found;
  const std::string mark = heading.substr(0, heading.find(' '));
  at += heading.size() + 2;
  while (at < kText.size()) {
    const std::size_t end = std::min(kText.find('\n', at), kText.size());
    const std::string line = kText.substr(at, end - at);
    at = end + 1;
    const std::string level = line.substr(0, line.find(' '));
    if (line.starts_with("#") && level.size() <= mark.size()) break;
    static const std::regex kRow(R"(\| (\S.*?) \| (\S.*?) \| (\S.*) \|)");
    std::smatch cells;
    if (std::regex_match(line, cells, kRow)) found.names.push_back(cells[1]);
  }
  return found;
}

void expect_rows(const std::string& heading, const std::vector<std::string>& keys) {
  const Section rows = section(heading);
  for (const std::string& key : keys)
    EXPECT_TRUE(rows.has(key)) << "'" << heading << "' of docs/rollout.md has no row for " << key;
}

TEST(RolloutDoc, Has_a_row_for_every_key_of_the_preflight) {
  expect_rows("## Preflight", keys_of(schema().at("properties").at("preflight").at("properties")));
  expect_rows("## Preflight", keys_of_a("warmup"));
  expect_rows("## Preflight", {"command", "timeout", "proxy_protocol"});
}

TEST(RolloutDoc, Has_a_row_for_every_key_of_the_steps) {
  expect_rows("## Steps", keys_of(schema().at("properties").at("rollout").at("properties")));
  expect_rows("## Steps", {"step_duration"});
  expect_rows("## Steps", keys_of_a("step"));
}

TEST(RolloutDoc, Has_a_row_for_every_key_of_every_type_of_gate) {
  const Section common = section("## Gates");
  for (const std::string type : {"probe", "scrape", "prometheus", "exec", "kernel"}) {
    const Section own = section("### " + type);
    for (const std::string& key : keys_of_a(type + "_gate")) {
      const bool is_common =
          key == "name" || key == "type" || key == "failures" || key == "max_failures";
      EXPECT_TRUE((is_common ? common : own).has(key)) << type << " has no row for " << key;
    }
  }
}

TEST(RolloutDoc, Has_a_row_for_what_belongs_to_it_elsewhere) {
  const std::string heading = "## Elsewhere, but part of it";
  expect_rows(heading, keys_of_a("worker"));
  expect_rows(heading, keys_of(schema().at("properties").at("hooks").at("properties")));
  expect_rows(heading, keys_of_a("hook"));
  expect_rows(heading, {"drain_timeout", "stop_timeout", "stop_signal", "allow_shared",
                        "role_signal", "max_watch", "max_step_patience", "max_pause",
                        "max_hook_timeout", "rollback_floor"});
}

}  // namespace
}  // namespace updagent::deploy
