#include "agent/base/strict_json.hpp"
#include "agent/trust/base64.hpp"
#include "agent/trust/envelope_text.hpp"
#include "agent/trust/trust.hpp"

namespace updagent::trust {
namespace {

using base::Code;
using base::Error;
using base::Json;
using base::Result;

constexpr std::string_view kName = "the release's envelope";

Error invalid(std::string what) {
  return {Code::envelope_invalid, std::string(kName) + " is not DSSE: " + std::move(what)};
}

// The string `field` of `object`; nothing when it is absent.
Result<std::optional<std::string>> text_field(const Json& object, const char* field) {
  const auto found = object.find(field);
  if (found == object.end()) return std::optional<std::string>();
  if (!found->is_string())
    return invalid("'" + std::string(field) + "' has the wrong type")
        .expected("a string")
        .got(found->type_name());
  return std::optional<std::string>(found->get<std::string>());
}

Result<std::string> required_text(const Json& object, const char* field) {
  UPD_ASSIGN(auto text, text_field(object, field));
  if (!text) return invalid("no '" + std::string(field) + "'").expected("a string");
  return std::move(*text);
}

Result<std::string> base64_field(const Json& object, const char* field) {
  UPD_ASSIGN(const std::string text, required_text(object, field));
  auto bytes = base64_decode(text);
  if (!bytes)
    return invalid("'" + std::string(field) + "' can't be decoded")
        .expected("padded base64")
        .got("something else");
  return std::move(*bytes);
}

Result<SignatureInfo> read_signature(const Json& item) {
  if (!item.is_object())
    return invalid("a signature has the wrong type").expected("an object").got(item.type_name());
  SignatureInfo signature;
  UPD_ASSIGN(auto key_id, text_field(item, "keyid"));
  if (key_id) signature.key_id = std::move(*key_id);
  if (signature.key_id.size() > kMaxKeyIdBytes)
    return invalid("a 'keyid' is too long")
        .expected("at most " + std::to_string(kMaxKeyIdBytes) + " bytes")
        .got(std::to_string(signature.key_id.size()));
  UPD_ASSIGN(signature.bytes, base64_field(item, "sig"));
  return signature;
}

Result<std::vector<SignatureInfo>> read_signatures(const Json& envelope) {
  const auto list = envelope.find("signatures");
  if (list == envelope.end() || !list->is_array())
    return invalid("no list 'signatures'")
        .expected("an array")
        .got(list == envelope.end() ? "nothing" : list->type_name());
  if (list->size() > kMaxSignatures)
    return invalid("too many signatures")
        .expected("at most " + std::to_string(kMaxSignatures))
        .got(std::to_string(list->size()));
  std::vector<SignatureInfo> signatures;
  for (const Json& item : *list) {
    UPD_ASSIGN(auto signature, read_signature(item));
    signatures.push_back(std::move(signature));
  }
  return signatures;
}

}  // namespace

std::string pae(std::string_view payload_type, std::string_view payload) {
  std::string out = "DSSEv1 " + std::to_string(payload_type.size()) + " ";
  out += payload_type;
  out += " " + std::to_string(payload.size()) + " ";
  out += payload;
  return out;
}

Result<Envelope> parse_envelope(std::string_view json) {
  if (json.size() > kMaxEnvelopeBytes)
    return Error(Code::envelope_invalid, std::string(kName) + " is too large")
        .expected("at most " + std::to_string(kMaxEnvelopeBytes) + " bytes")
        .got(std::to_string(json.size()));
  UPD_ASSIGN(const Json tree, base::parse_strict_json(json, Code::envelope_invalid, kName));
  if (!tree.is_object())
    return invalid("not an object").expected("a JSON object").got(tree.type_name());
  Envelope envelope;
  UPD_ASSIGN(envelope.payload, base64_field(tree, "payload"));
  UPD_ASSIGN(envelope.payload_type, required_text(tree, "payloadType"));
  UPD_ASSIGN(envelope.signatures, read_signatures(tree));
  return envelope;
}

Result<std::string> envelope_text(const Envelope& envelope) {
  Json signatures = Json::array();
  for (const SignatureInfo& signature : envelope.signatures) {
    Json item = {{"sig", base64_encode(signature.bytes)}};
    if (!signature.key_id.empty()) item["keyid"] = signature.key_id;
    signatures.push_back(std::move(item));
  }
  const Json tree = {{"payload", base64_encode(envelope.payload)},
                     {"payloadType", envelope.payload_type},
                     {"signatures", std::move(signatures)}};
  std::string text = tree.dump();
  if (text.size() > kMaxEnvelopeBytes || envelope.signatures.size() > kMaxSignatures)
    return Error(Code::envelope_invalid, "the envelope would be too large")
        .expected("at most " + std::to_string(kMaxEnvelopeBytes) + " bytes and " +
                  std::to_string(kMaxSignatures) + " signatures")
        .got(std::to_string(text.size()) + " bytes and " +
             std::to_string(envelope.signatures.size()) + " signatures");
  return text;
}

}  // namespace updagent::trust
