#include <openssl/crypto.h>
#include <openssl/ecdsa.h>

#include <algorithm>

#include "agent/trust/envelope_text.hpp"
#include "agent/trust/trust.hpp"

namespace updagent::trust {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::Status;

struct FreeSignature {
  void operator()(ECDSA_SIG* signature) const { ECDSA_SIG_free(signature); }
};

// r and s, 32 big-endian bytes each, as the DER that everything else here reads. "" without memory.
std::string der_of_raw(std::string_view raw) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(raw.data());
  const std::unique_ptr<ECDSA_SIG, FreeSignature> signature(ECDSA_SIG_new());
  BIGNUM* r = BN_bin2bn(bytes, 32, nullptr);
  BIGNUM* s = BN_bin2bn(bytes + 32, 32, nullptr);
  if (!signature || ECDSA_SIG_set0(signature.get(), r, s) != 1) {
    BN_free(r);
    BN_free(s);
    return "";
  }
  unsigned char* der = nullptr;
  const int size = i2d_ECDSA_SIG(signature.get(), &der);
  if (size <= 0) return "";
  std::string out(reinterpret_cast<const char*>(der), static_cast<std::size_t>(size));
  OPENSSL_free(der);
  return out;
}

// An envelope that may get a signature here: of a release, or nothing.
Result<Envelope> parse_signable(std::string_view json) {
  UPD_ASSIGN(Envelope envelope, parse_envelope(json));
  if (envelope.payload_type != kPayloadType)
    return Error(Code::payload_type_wrong, "the envelope is not of a release")
        .expected("payloadType " + std::string(kPayloadType))
        .got(envelope.payload_type);
  UPD_TRY(parse_statement(envelope.payload));
  return envelope;
}

// Puts `added` last; what the same key signed before goes, whatever id it stood under.
Result<std::string> with_signature(Envelope envelope, SignatureInfo added, const PublicKey* key) {
  const std::string message = pae(envelope.payload_type, envelope.payload);
  std::erase_if(envelope.signatures, [&](const SignatureInfo& old) {
    return old.key_id == added.key_id ||
           (key != nullptr && signature_fits(*key, message, old.bytes));
  });
  envelope.signatures.push_back(std::move(added));
  return envelope_text(envelope);
}

Status check_attached(const std::string& key_id, std::string_view signature) {
  if (!base::Digest::from_hex(key_id))
    return Error(Code::usage, "this is no key id")
        .expected("64 lower-case hex digits")
        .got("'" + key_id + "'");
  if (signature.empty() || signature.size() > kMaxSignatureBytes)
    return Error(Code::usage, "this is no signature")
        .expected("raw Ed25519 (64 bytes) or DER ECDSA (up to 72 bytes)")
        .got(std::to_string(signature.size()) + " bytes");
  return base::ok();
}

}  // namespace

Result<std::string> make_envelope(const Statement& statement,
                                  const std::vector<const PrivateKey*>& keys) {
  if (keys.empty()) return Error(Code::usage, "a release needs a key that signs it");
  Envelope envelope{make_statement(statement), kPayloadType, {}};
  UPD_TRY(parse_statement(envelope.payload));  // never sign what no one could read
  const std::string message = pae(envelope.payload_type, envelope.payload);
  for (const PrivateKey* key : keys) {
    UPD_ASSIGN(const PublicKey half, key->public_key());
    const bool again = std::any_of(
        envelope.signatures.begin(), envelope.signatures.end(),
        [&](const SignatureInfo& signature) { return signature.key_id == half.key_id; });
    if (again) continue;
    UPD_ASSIGN(std::string signature, key->sign(message));
    envelope.signatures.push_back({half.key_id, std::move(signature)});
  }
  return envelope_text(envelope);
}

Result<std::string> add_signature(std::string_view envelope_json, const PrivateKey& key) {
  UPD_ASSIGN(Envelope envelope, parse_signable(envelope_json));
  UPD_ASSIGN(const PublicKey half, key.public_key());
  UPD_ASSIGN(std::string signature, key.sign(pae(envelope.payload_type, envelope.payload)));
  return with_signature(std::move(envelope), {half.key_id, std::move(signature)}, &half);
}

Result<std::string> attach_signature(std::string_view envelope_json, const PublicKey& key,
                                     std::string_view signature) {
  UPD_ASSIGN(Envelope envelope, parse_signable(envelope_json));
  UPD_TRY(check_attached(key.key_id, signature));
  const std::string message = pae(envelope.payload_type, envelope.payload);
  std::string bytes(signature);
  constexpr std::size_t kRawSize = 64;  // r and s of P-256
  if (key.type == KeyType::ecdsa_p256 && bytes.size() == kRawSize &&
      !signature_fits(key, message, bytes))
    bytes = der_of_raw(signature);
  if (!signature_fits(key, message, bytes))
    return Error(Code::signature_invalid,
                 "the signature is not by '" + key.name + "' over this release's envelope")
        .expected(std::string(key_type_name(key.type)) + " by " + fingerprint(key.key_id))
        .got(std::to_string(signature.size()) + " bytes that don't fit")
        .hint("sign exactly the bytes that `updagent sign FILE --print-pae` prints");
  return with_signature(std::move(envelope), {key.key_id, std::move(bytes)}, &key);
}

Result<std::string> attach_signature(std::string_view envelope_json, const std::string& key_id,
                                     std::string_view signature) {
  UPD_ASSIGN(Envelope envelope, parse_signable(envelope_json));
  UPD_TRY(check_attached(key_id, signature));
  return with_signature(std::move(envelope), {key_id, std::string(signature)}, nullptr);
}

Result<std::string> merge_signatures(std::string_view kept_json, std::string_view other_json,
                                     const TrustSet& trust) {
  UPD_ASSIGN(const Envelope kept, parse_signable(kept_json));
  UPD_ASSIGN(const Envelope other, parse_signable(other_json));
  if (kept.payload != other.payload) {
    const bool more = good_signatures(other, trust).size() > good_signatures(kept, trust).size();
    return std::string(more ? other_json : kept_json);
  }
  Envelope both = kept;
  both.signatures.insert(both.signatures.end(), other.signatures.begin(), other.signatures.end());
  Envelope merged{kept.payload, kept.payload_type, {}};
  for (const GoodSignature& good : good_signatures(both, trust))
    if (merged.signatures.size() < kMaxSignatures)
      merged.signatures.push_back({good.key->key_id, good.signature->bytes});
  if (merged.signatures.empty())
    return Error(Code::signature_unknown_key, "neither envelope is signed by a trusted key")
        .expected("a key in " + trust.where);
  return envelope_text(merged);
}

}  // namespace updagent::trust
