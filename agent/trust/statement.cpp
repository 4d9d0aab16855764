#include "agent/base/strict_json.hpp"
#include "agent/release/semver.hpp"
#include "agent/trust/trust.hpp"

namespace updagent::trust {
namespace {

using base::Code;
using base::Digest;
using base::Error;
using base::Json;
using base::Result;
using base::Status;

constexpr std::string_view kName = "the signed statement";

Error invalid(std::string what) {
  return {Code::statement_invalid, std::string(kName) + ": " + std::move(what)};
}

// The string `field` of `object`, which must be there.
Result<std::string> text_of(const Json& object, const char* field, const std::string& where) {
  const auto found = object.find(field);
  if (found == object.end() || !found->is_string())
    return invalid(where + " lacks '" + field + "'")
        .expected("a string")
        .got(found == object.end() ? "nothing" : found->type_name());
  return found->get<std::string>();
}

Result<Digest> digest_of(const Json& subject, const std::string& name) {
  const auto digests = subject.find("digest");
  if (digests == subject.end() || !digests->is_object())
    return invalid("the subject '" + name + "' has no digest").expected("an object with 'sha256'");
  UPD_ASSIGN(const std::string hex, text_of(*digests, "sha256", "the digest of '" + name + "'"));
  const auto digest = Digest::from_hex(hex);
  if (!digest)
    return invalid("the digest of '" + name + "' is no SHA-256")
        .expected("64 lower-case hex digits")
        .got("'" + hex + "'");
  return *digest;
}

// Which files the statement is about. Anything but these two would be a promise that nobody keeps.
Result<Digest> manifest_subject(const Json& statement) {
  const auto subjects = statement.find("subject");
  if (subjects == statement.end() || !subjects->is_array())
    return invalid("no list 'subject'").expected("an array");
  std::optional<Digest> manifest;
  bool parts = false;
  for (const Json& subject : *subjects) {
    if (!subject.is_object())
      return invalid("a subject has the wrong type").expected("an object").got(subject.type_name());
    UPD_ASSIGN(const std::string name, text_of(subject, "name", "a subject"));
    UPD_ASSIGN(const Digest digest, digest_of(subject, name));
    const bool is_manifest = name == kManifestSubject;
    if (!is_manifest && name != kPartsSubject)
      return invalid("a subject that is not of a release")
          .expected("'" + std::string(kManifestSubject) + "' or '" + kPartsSubject + "'")
          .got("'" + name + "'");
    if (is_manifest ? manifest.has_value() : parts)
      return invalid("the subject '" + name + "' stands twice")
          .expected("each once")
          .got("two of it");
    if (is_manifest) {
      manifest = digest;
    } else {
      parts = true;
    }
  }
  if (!manifest)
    return invalid("no subject '" + std::string(kManifestSubject) + "'")
        .expected("exactly one")
        .got("none");
  return *manifest;
}

Status read_predicate(const Json& predicate, Statement& statement) {
  UPD_ASSIGN(statement.app, text_of(predicate, "app", "the predicate"));
  UPD_ASSIGN(statement.version, text_of(predicate, "version", "the predicate"));
  if (!release::is_app_name(statement.app))
    return invalid("'" + statement.app + "' is no name for an app")
        .expected("lower-case letters, digits, '.', '_', '-'; at most 64")
        .got("'" + statement.app + "'");
  if (statement.version.size() > release::kMaxVersionLength ||
      !release::parse_semver(statement.version))
    return invalid("'" + statement.version + "' is no version")
        .expected("SemVer 2.0.0, at most " + std::to_string(release::kMaxVersionLength) +
                  " characters")
        .got("'" + statement.version + "'");
  return base::ok();
}

Result<Json> read_tree(std::string_view payload) {
  UPD_ASSIGN(Json tree, base::parse_strict_json(payload, Code::statement_invalid, kName));
  if (!tree.is_object())
    return invalid("not an object").expected("a JSON object").got(tree.type_name());
  UPD_ASSIGN(const std::string type, text_of(tree, "_type", "it"));
  if (type != kStatementType)
    return invalid("an unknown '_type'").expected(kStatementType).got(type);
  return tree;
}

}  // namespace

Result<Statement> parse_statement(std::string_view payload) {
  UPD_ASSIGN(const Json tree, read_tree(payload));
  Statement statement;
  UPD_ASSIGN(statement.manifest_digest, manifest_subject(tree));
  UPD_ASSIGN(const std::string predicate_type, text_of(tree, "predicateType", "it"));
  if (predicate_type != kPredicateType)
    return Error(Code::predicate_wrong, "the statement is not about an updagent release")
        .expected("predicateType " + std::string(kPredicateType))
        .got(predicate_type);
  const auto predicate = tree.find("predicate");
  if (predicate == tree.end() || !predicate->is_object())
    return invalid("no object 'predicate'")
        .expected("an object with 'app' and 'version'")
        .got(predicate == tree.end() ? "nothing" : predicate->type_name());
  UPD_TRY(read_predicate(*predicate, statement));
  return statement;
}

std::string make_statement(const Statement& statement) {
  // nlohmann's object is a sorted map: one statement has one spelling
  const Json tree = {
      {"_type", kStatementType},
      {"predicate", {{"app", statement.app}, {"version", statement.version}}},
      {"predicateType", kPredicateType},
      {"subject", Json::array({{{"name", kManifestSubject},
                                {"digest", {{"sha256", statement.manifest_digest.hex()}}}}})}};
  return tree.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace updagent::trust
