#include <algorithm>

#include "agent/base/text.hpp"
#include "agent/trust/envelope_text.hpp"
#include "agent/trust/trust.hpp"

namespace updagent::trust {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::Status;

// The keys that the envelope says signed it. Claims of a stranger: what is no key id is not shown.
std::vector<std::string> claimed_fingerprints(const Envelope& envelope) {
  std::vector<std::string> out;
  for (const SignatureInfo& signature : envelope.signatures) {
    std::string shown = base::Digest::from_hex(signature.key_id) ? fingerprint(signature.key_id)
                                                                 : "a key without a usable id";
    if (std::find(out.begin(), out.end(), shown) == out.end()) out.push_back(std::move(shown));
  }
  return out;
}

std::string claimed_text(const Envelope& envelope) {
  return base::join(claimed_fingerprints(envelope), " and ");
}

std::string trust_hint(const Envelope& envelope, const TrustSet& trust) {
  return "signed, it says, by " + claimed_text(envelope) +
         "; compare that with what the publisher tells you, get the .pub file, then run: " +
         trust.to_add;
}

const PublicKey* key_named(const TrustSet& trust, std::string_view key_id) {
  const auto found = std::find_if(trust.keys.begin(), trust.keys.end(),
                                  [&](const PublicKey& key) { return key.key_id == key_id; });
  return found == trust.keys.end() ? nullptr : &*found;
}

std::size_t distinct_keys(const TrustSet& trust) {
  std::vector<std::string> ids;
  ids.reserve(trust.keys.size());
  for (const PublicKey& key : trust.keys) ids.push_back(key.key_id);
  std::sort(ids.begin(), ids.end());
  return static_cast<std::size_t>(std::unique(ids.begin(), ids.end()) - ids.begin());
}

bool is_good(const std::vector<GoodSignature>& good, const PublicKey& key) {
  return std::any_of(good.begin(), good.end(),
                     [&](const GoodSignature& one) { return one.key->key_id == key.key_id; });
}

std::string key_text(const PublicKey& key) {
  return "'" + key.name + "' (" + fingerprint(key.key_id) + ")";
}

// A signature in the name of a trusted key that didn't sign this: damage or an attack, not a
// stranger.
Status refuse_bad(const Envelope& envelope, const TrustSet& trust,
                  const std::vector<GoodSignature>& good) {
  for (const SignatureInfo& signature : envelope.signatures) {
    const PublicKey* key = key_named(trust, signature.key_id);
    if (key == nullptr || is_good(good, *key)) continue;
    return Error(Code::signature_invalid, "the signature by the trusted key " + key_text(*key) +
                                              " does not fit this release")
        .expected("a signature over these bytes")
        .got("one over other bytes, or a damaged one")
        .hint("get the file again from its publisher; do not use this one");
  }
  return base::ok();
}

Error too_few(const std::vector<GoodSignature>& good, const TrustSet& trust) {
  std::vector<std::string> names;
  names.reserve(good.size());
  for (const GoodSignature& one : good) names.push_back(key_text(*one.key));
  Error error = Error(Code::signature_threshold, "too few trusted keys signed this release")
                    .expected(std::to_string(trust.threshold) + " different keys")
                    .got(std::to_string(good.size()) + ": " + base::join(names, ", "));
  const std::size_t known = distinct_keys(trust);
  if (known < static_cast<std::size_t>(trust.threshold))
    return std::move(error).hint("only " + std::to_string(known) + " in " + trust.where +
                                 ": add the others with: " + trust.to_add);
  return std::move(error).hint(
      "another key holder adds a signature with: updagent sign FILE --key KEY -o FILE2");
}

// The refusals in the order of the header, from the payload's type to the threshold.
Status check_signatures(const Envelope& envelope, const TrustSet& trust,
                        const std::vector<GoodSignature>& good) {
  if (good.size() >= static_cast<std::size_t>(trust.threshold)) return base::ok();
  const bool known =
      !good.empty() || std::any_of(envelope.signatures.begin(), envelope.signatures.end(),
                                   [&](const SignatureInfo& signature) {
                                     return key_named(trust, signature.key_id) != nullptr;
                                   });
  if (!known)
    return Error(Code::signature_unknown_key, "signed by no key that this node trusts")
        .expected("a key in " + trust.where)
        .got(claimed_text(envelope))
        .hint(trust_hint(envelope, trust));
  UPD_TRY(refuse_bad(envelope, trust, good));
  return too_few(good, trust);
}

Status check_before(const Envelope& envelope, const TrustSet& trust) {
  if (trust.threshold < 1)  // would let everything in
    return Error(Code::config_invalid, "the threshold of trusted keys is too low")
        .expected("1 or more")
        .got(std::to_string(trust.threshold));
  if (envelope.payload_type != kPayloadType)
    return Error(Code::payload_type_wrong, "the envelope signs something that is no release")
        .expected("payloadType " + std::string(kPayloadType))
        .got(envelope.payload_type);
  if (envelope.signatures.empty())
    return Error(Code::signature_missing, "the release is not signed")
        .expected("at least one signature")
        .got("none")
        .hint("its publisher signs it with: updagent sign FILE --key KEY -o FILE2");
  if (trust.keys.empty())
    return Error(Code::no_trusted_keys, "this node trusts no key yet")
        .expected("a key in " + trust.where)
        .got("none")
        .hint(trust_hint(envelope, trust));
  return base::ok();
}

}  // namespace

std::vector<GoodSignature> good_signatures(const Envelope& envelope, const TrustSet& trust) {
  const std::string message = pae(envelope.payload_type, envelope.payload);
  std::vector<GoodSignature> good;
  for (const SignatureInfo& signature : envelope.signatures) {
    for (const PublicKey& key : trust.keys) {
      if (is_good(good, key) || !signature_fits(key, message, signature.bytes)) continue;
      good.push_back({&key, &signature});
      break;
    }
  }
  return good;
}

Result<Verified> verify_envelope(std::string_view json, const TrustSet& trust) {
  UPD_ASSIGN(const Envelope envelope, parse_envelope(json));
  UPD_TRY(check_before(envelope, trust));
  const std::vector<GoodSignature> good = good_signatures(envelope, trust);
  UPD_TRY(check_signatures(envelope, trust, good));
  Verified verified;
  UPD_ASSIGN(verified.statement, parse_statement(envelope.payload));
  for (const GoodSignature& one : good) verified.signed_by.push_back(*one.key);
  return verified;
}

}  // namespace updagent::trust
