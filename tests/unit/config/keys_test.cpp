// The table of keys, docs/configuration.md and schema/node.schema.json say the same.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "agent/trust/trust.hpp"
#include "tests/unit/config/support.hpp"

namespace updagent::config {
namespace {

using nlohmann::json;
using namespace test;

std::string source_file(const std::string& name) {
  std::ifstream stream(std::string(UPDAGENT_SOURCE_DIR) + "/" + name);
  EXPECT_TRUE(stream) << name;
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::string row_of(const KeyInfo& key) {
  const std::string value = key.default_value.empty() ? "none" : "`" + key.default_value + "`";
  return "| `" + key.path + "` | " + key.type + " | " + value + " | " +
         (key.in_apps ? "yes" : "no") + " | " + key.meaning + " |";
}

// The blocks ```toml ... ``` of a document.
std::vector<std::string> toml_blocks(const std::string& text) {
  const std::string fence = "```toml\n";
  std::vector<std::string> blocks;
  for (std::size_t at = text.find(fence); at != std::string::npos; at = text.find(fence, at)) {
    at += fence.size();
    blocks.push_back(text.substr(at, text.find("```", at) - at));
  }
  return blocks;
}

// The default as a file would have it, for one key.
std::string as_file(const KeyInfo& key) {
  if (key.path.starts_with("notify.")) {
    const std::string name = key.path.substr(std::string("notify.").size());
    const std::string rest = std::string(name == "name" ? "" : "name = \"n\"\n") +
                             (name == "command" || name == "webhook" ? "" : "command = [\"c\"]\n");
    return "[[notify]]\n" + rest + name + " = " + key.default_value + "\n";
  }
  return key.path + " = " + key.default_value + "\n";
}

// The same file, its last line left out: that is the key's.
std::string without_key(const KeyInfo& key) {
  const std::string text = as_file(key);
  return text.substr(0, text.rfind('\n', text.size() - 2) + 1);
}

// More signatures than an envelope can hold would refuse every release.
TEST(Keys, The_highest_threshold_is_what_an_envelope_can_hold) {
  const std::string type = "integer, 1 to " + std::to_string(trust::kMaxSignatures);
  for (const KeyInfo& key : all_keys())
    if (key.path == "trust.threshold") {
      EXPECT_EQ(key.type, type);
    }
}

TEST(Keys, Stand_in_the_documentation_word_for_word) {
  const std::string text = source_file("docs/configuration.md");
  std::set<std::string> documented;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("| `") && std::count(line.begin(), line.end(), '|') == 6)
      documented.insert(line);
  std::set<std::string> known;
  for (const KeyInfo& key : all_keys()) known.insert(row_of(key));
  for (const std::string& row : known)
    EXPECT_TRUE(documented.contains(row)) << "not in docs/configuration.md: " << row;
  for (const std::string& row : documented)
    EXPECT_TRUE(known.contains(row)) << "only in docs/configuration.md: " << row;
}

TEST(Keys, Have_examples_in_the_documentation_that_load) {
  const auto blocks = toml_blocks(source_file("docs/configuration.md"));
  ASSERT_EQ(blocks.size(), 2U);
  const Node node;
  node.write("node.toml", blocks[0]);
  node.write("apps.d/shop.toml", blocks[1]);
  const auto settings = node.load("shop");
  ASSERT_TRUE(settings) << settings.error().line();
  EXPECT_EQ(settings->node_name, "web-1");
  EXPECT_EQ(settings->app.threshold, 1);
  EXPECT_EQ(settings->notifications.size(), 2U);
}

// The default in the documentation is that of a Settings{}; written into a file it changes nothing.
TEST(Keys, Have_defaults_that_can_be_written) {
  const Node node;
  for (const KeyInfo& key : all_keys()) {
    const bool required =
        key.path == "notify.name" || key.path == "notify.webhook" || key.path == "notify.command";
    if (key.default_value.empty() || required) continue;
    auto settings = node.load_text(as_file(key));
    ASSERT_TRUE(settings) << key.path << ": " << settings.error().line();
    const auto without = node.load_text(without_key(key));
    ASSERT_TRUE(without) << key.path << ": " << without.error().line();
    EXPECT_TRUE(*settings == *without) << key.path << " = " << key.default_value;
  }
}

TEST(Keys, Have_one_line_that_says_what_they_mean) {
  std::set<std::string> paths;
  for (const KeyInfo& key : all_keys()) {
    EXPECT_TRUE(paths.insert(key.path).second) << key.path << " stands twice";
    EXPECT_FALSE(key.meaning.empty()) << key.path;
    EXPECT_EQ(key.meaning.find_first_of("\n|"), std::string::npos) << key.path;
    EXPECT_FALSE(key.type.empty()) << key.path;
  }
}

// Every leaf of the schema's properties as "table.key".
std::map<std::string, json> schema_keys(const json& schema) {
  std::map<std::string, json> keys;
  for (const auto& [name, property] : schema.at("properties").items()) {
    const json& table = property.value("type", "") == "array" ? property.at("items") : property;
    if (!table.contains("properties")) {
      keys[name] = property;
      continue;
    }
    EXPECT_EQ(table.at("additionalProperties"), false) << name;
    for (const auto& [key, leaf] : table.at("properties").items()) keys[name + "." + key] = leaf;
  }
  return keys;
}

json schema_type(const std::string& type) {
  const auto is = [&](const char* kind) { return type.starts_with(kind); };
  if (is("true")) return "boolean";
  if (is("integer")) return "integer";
  if (is("size")) return json::array({"integer", "string"});
  if (is("list")) return "array";
  return is("table") ? "object" : "string";
}

TEST(Keys, Stand_in_the_JSON_schema) {
  const json schema = json::parse(source_file("schema/node.schema.json"));
  EXPECT_EQ(schema.at("additionalProperties"), false);
  std::map<std::string, json> left = schema_keys(schema);
  for (const KeyInfo& key : all_keys()) {
    ASSERT_TRUE(left.contains(key.path)) << key.path;
    const json leaf = left.at(key.path);
    left.erase(key.path);
    EXPECT_EQ(leaf.at("description"), key.meaning) << key.path;
    EXPECT_EQ(leaf.at("type"), schema_type(key.type)) << key.path;
    EXPECT_EQ(leaf.contains("default"), !key.default_value.empty()) << key.path;
    if (leaf.contains("default")) {
      EXPECT_EQ(leaf.at("default"), json::parse(key.default_value)) << key.path;
    }
    if (leaf.contains("maximum") && key.type.starts_with("integer")) {
      const std::string range = leaf.at("minimum").dump() + " to " + leaf.at("maximum").dump();
      EXPECT_EQ(key.type, "integer, " + range) << key.path;
    }
  }
  for (const auto& [path, leaf] : left) ADD_FAILURE() << path << " is in the schema only";
}

}  // namespace
}  // namespace updagent::config
