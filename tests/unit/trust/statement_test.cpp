#include <nlohmann/json.hpp>

#include "tests/unit/trust/support.hpp"

namespace updagent::trust {
namespace {

using nlohmann::json;
using namespace test;

json good() {
  return json::parse(make_statement(shop()));
}

json subject(const std::string& name) {
  return {{"name", name}, {"digest", {{"sha256", base::sha256(name).hex()}}}};
}

TEST(Statement, Is_written_as_the_format_says) {
  EXPECT_EQ(
      make_statement(shop()),
      R"({"_type":"https://in-toto.io/Statement/v1","predicate":{"app":"shop","version":"1.4.2"},)"
      R"("predicateType":"https://updagent.dev/release/v1","subject":[{"digest":{"sha256":")" +
          base::sha256("the manifest").hex() + R"("},"name":".updagent/manifest.json"}]})");
}

TEST(Statement, Is_read_back) {
  const auto statement = parse_statement(make_statement(shop()));
  ASSERT_TRUE(statement) << statement.error().line();
  EXPECT_EQ(statement->app, "shop");
  EXPECT_EQ(statement->version, "1.4.2");
  EXPECT_EQ(statement->manifest_digest, base::sha256("the manifest"));
}

TEST(Statement, May_have_parts_json_as_a_second_subject) {
  json tree = good();
  tree["subject"].push_back(subject(kPartsSubject));
  const auto statement = parse_statement(tree.dump());
  ASSERT_TRUE(statement) << statement.error().line();
  EXPECT_EQ(statement->manifest_digest, base::sha256("the manifest"));
}

TEST(Statement, With_any_other_subject_is_refused) {
  json tree = good();
  tree["subject"].push_back(subject("bin/shop"));
  const auto statement = parse_statement(tree.dump());
  EXPECT_REFUSED(statement, statement_invalid);
  EXPECT_EQ(statement.error().got(), "'bin/shop'");
}

TEST(Statement, With_the_manifest_twice_is_refused) {
  json tree = good();
  tree["subject"].push_back(subject(kManifestSubject));
  EXPECT_REFUSED(parse_statement(tree.dump()), statement_invalid);
}

TEST(Statement, With_parts_json_twice_is_refused) {
  json tree = good();
  tree["subject"].push_back(subject(kPartsSubject));
  tree["subject"].push_back(subject(kPartsSubject));
  EXPECT_REFUSED(parse_statement(tree.dump()), statement_invalid);
}

TEST(Statement, Without_the_manifest_is_refused) {
  for (const json& subjects : {json::array(), json::array({subject(kPartsSubject)})}) {
    json tree = good();
    tree["subject"] = subjects;
    const auto statement = parse_statement(tree.dump());
    EXPECT_REFUSED(statement, statement_invalid);
    EXPECT_EQ(statement.error().expected(), "exactly one");
  }
}

TEST(Statement, Ignores_fields_that_in_toto_does_not_name) {
  json tree = good();
  tree["extension"] = {1, 2};
  tree["predicate"]["channel"] = "stable";
  tree["subject"][0]["annotations"] = {{"a", "b"}};
  tree["subject"][0]["digest"]["sha512"] = "00";
  EXPECT_TRUE(parse_statement(tree.dump()));
}

TEST(Statement, With_another_predicate_type_is_refused_naming_both) {
  json tree = good();
  tree["predicateType"] = "https://slsa.dev/provenance/v1";
  const auto statement = parse_statement(tree.dump());
  EXPECT_REFUSED(statement, predicate_wrong);
  EXPECT_EQ(statement.error().expected(), "predicateType https://updagent.dev/release/v1");
  EXPECT_EQ(statement.error().got(), "https://slsa.dev/provenance/v1");
}

TEST(Statement, Of_another_version_of_in_toto_is_refused) {
  json tree = good();
  tree["_type"] = "https://in-toto.io/Statement/v0.1";
  const auto statement = parse_statement(tree.dump());
  EXPECT_REFUSED(statement, statement_invalid);
  EXPECT_EQ(statement.error().expected(), kStatementType);
  EXPECT_EQ(statement.error().got(), "https://in-toto.io/Statement/v0.1");
}

TEST(Statement, Of_another_shape_is_refused) {
  const std::vector<std::pair<const char*, json>> changes = {
      {"/_type", 1},
      {"/subject", "x"},
      {"/subject/0", "x"},
      {"/subject/0/name", 1},
      {"/subject/0/digest", "x"},
      {"/subject/0/digest", json::object()},
      {"/subject/0/digest/sha256", 1},
      {"/subject/0/digest/sha256", "abc"},
      {"/subject/0/digest/sha256", std::string(64, 'A')},
      {"/predicateType", json::array()},
      {"/predicate", "x"},
      {"/predicate", json::object()},
      {"/predicate/app", 1},
      {"/predicate/version", 1},
      {"/predicate/version", json::array({"1.4.2"})},
  };
  for (const auto& [where, value] : changes) {
    json tree = good();
    tree[json::json_pointer(where)] = value;
    const auto statement = parse_statement(tree.dump());
    ASSERT_FALSE(statement) << where;
    EXPECT_EQ(statement.error().code(), base::Code::statement_invalid) << where;
  }
}

TEST(Statement, That_lacks_a_field_is_refused) {
  for (const char* field : {"_type", "subject", "predicateType", "predicate"}) {
    json tree = good();
    tree.erase(field);
    const auto statement = parse_statement(tree.dump());
    ASSERT_FALSE(statement) << field;
    EXPECT_EQ(statement.error().code(), base::Code::statement_invalid) << field;
  }
}

// App and version become part of paths.
TEST(Statement, Names_an_app_and_a_version_that_are_safe_as_file_names) {
  for (const char* app : {"", "..", ".", "a/b", "../../etc", "A", "-x", "a b"}) {
    Statement statement = shop();
    statement.app = app;
    const auto parsed = parse_statement(make_statement(statement));
    EXPECT_REFUSED(parsed, statement_invalid);
    EXPECT_EQ(parsed.error().got(), "'" + std::string(app) + "'");
  }
  const std::string long_build = "1.0.0+" + std::string(70, 'a');
  for (const std::string& version : {std::string(), std::string("1"), std::string("1.0"),
                                     std::string("1.0.0/.."), std::string("v1.0.0"), long_build}) {
    Statement statement = shop();
    statement.version = version;
    EXPECT_REFUSED(parse_statement(make_statement(statement)), statement_invalid);
  }
}

TEST(Statement, Must_be_strict_JSON) {
  const std::string text = make_statement(shop());
  for (const std::string& bad : {text + "x", text.substr(0, text.size() - 1), std::string("[]"),
                                 "{\"_type\":\"a\"," + text.substr(1)})
    EXPECT_REFUSED(parse_statement(bad), statement_invalid);
}

}  // namespace
}  // namespace updagent::trust
