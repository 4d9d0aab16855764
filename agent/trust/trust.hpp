// Who built this? Keys, DSSE envelopes, in-toto statements. Start here for agent/trust/: it answers
// whether enough trusted keys signed a release, and never touches the network or the database.
// DSSE v1: https://github.com/secure-systems-lab/dsse (protocol.md, envelope.md).
// Statement v1: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/digest.hpp"
#include "agent/base/error.hpp"

struct evp_pkey_st;

namespace updagent::trust {

inline constexpr const char* kPayloadType = "application/vnd.in-toto+json";
inline constexpr const char* kStatementType = "https://in-toto.io/Statement/v1";
inline constexpr const char* kPredicateType = "https://updagent.dev/release/v1";
inline constexpr const char* kManifestSubject = ".updagent/manifest.json";  // the identity
inline constexpr const char* kPartsSubject = ".updagent/parts.json";        // transport only
inline constexpr std::size_t kMaxEnvelopeBytes = 64 * 1024;  // 16 signatures fit 40 times
inline constexpr std::size_t kMaxSignatures = 16;            // a threshold of people, not a crowd
inline constexpr std::size_t kMaxSignatureBytes = 128;       // DER ECDSA P-256 takes 72 at most
inline constexpr std::size_t kMaxKeyIdBytes = 256;  // as an envelope claims it; ours are 64
inline constexpr std::size_t kMaxTrustedKeys = 64;
inline constexpr std::size_t kMaxKeyFileBytes = 16 * 1024;

enum class KeyType { ed25519, ecdsa_p256 };
std::string_view key_type_name(KeyType type);  // "Ed25519", "ECDSA P-256"

struct FreeKey {
  void operator()(evp_pkey_st* key) const;
};
using KeyHandle = std::unique_ptr<evp_pkey_st, FreeKey>;

struct PublicKey {
  std::string name;    // file name without .pub
  std::string path;    // where it was read from, "" if from memory
  std::string key_id;  // lower-case hex SHA-256 of the SPKI in DER (64 digits)
  KeyType type = KeyType::ed25519;
  std::shared_ptr<evp_pkey_st> handle;
};

// "SHA256:ab12 cd34 ..." in groups of four: what two people compare by phone.
std::string fingerprint(std::string_view key_id);

class PrivateKey {
 public:
  // PKCS#8 PEM, Ed25519 or ECDSA P-256; refused when group or others may read the file. Everything
  // that is wrong with a key, here and below, is Code::key_unusable.
  static base::Result<PrivateKey> load(const std::string& path);
  static base::Result<PrivateKey> from_pem(std::string_view pem,
                                           const std::string& name_for_errors);
  static base::Result<PrivateKey> generate(KeyType type);
  base::Result<std::string> sign(
      std::string_view message) const;  // raw Ed25519 (64 B) or DER ECDSA/SHA-256
  base::Result<std::string> to_pem() const;
  base::Result<PublicKey> public_key() const;

 private:
  explicit PrivateKey(KeyHandle handle, KeyType type) : handle_(std::move(handle)), type_(type) {}
  KeyHandle handle_;
  KeyType type_;
};

base::Result<PublicKey> parse_public_key(std::string_view pem, std::string name, std::string path);
base::Result<std::string> public_key_pem(const PublicKey& key);
// Raw Ed25519 (RFC 8032) or DER ECDSA/SHA-256 (RFC 3279); false for anything else.
bool signature_fits(const PublicKey& key, std::string_view message, std::string_view signature);
// What a key may be called: a file name that also reads well in `trust list`. Code::usage.
base::Status check_key_name(std::string_view name);
// NAME.key (0600) and NAME.pub (0644) in `directory`, which is made if need be (0700), never over
// an existing file.
base::Result<PublicKey> write_key_pair(const std::string& directory, const std::string& name,
                                       KeyType type);

// The keys that count for one app, and how many different ones must have signed.
struct TrustSet {
  std::vector<PublicKey> keys;
  int threshold = 1;
  std::string where;  // for messages: "/etc/updagent/trust.d", "--trust release.pub"
  std::string to_add = "updagent trust add FILE";  // what makes one more key count
};

// trust.d/APP/*.pub if that folder has any, otherwise trust.d/*.pub. A file or folder (trust.d's
// parent too) that group or others may write, or that belongs to neither root nor us, is refused
// (Code::key_unusable), and so is the whole set when one of its files is no usable key. A folder
// that isn't there gives an empty set. app "" loads the keys for all apps.
base::Result<TrustSet> load_trust(const std::string& trust_directory, const std::string& app,
                                  int threshold);
// From --trust: files or directories. They may belong to anyone (the operator named them for this
// one command, often from a home under sudo), but group and others must not be able to write them.
base::Result<TrustSet> load_trust_from(const std::vector<std::string>& paths, int threshold);

struct Statement {
  std::string app;
  std::string version;
  base::Digest manifest_digest;
};

struct SignatureInfo {
  std::string key_id;  // as the envelope claims, may be ""
  std::string bytes;
};

// Readable without trust: for `inspect`, and to know which app's keys to load. Nothing of it may be
// acted on before verify_envelope() has passed.
struct Envelope {
  std::string payload;  // decoded bytes
  std::string payload_type;
  std::vector<SignatureInfo> signatures;
};
// Fields that DSSE doesn't name are ignored, as its specification demands (and not kept when a
// signature is added). Base64 in either alphabet, padded.
base::Result<Envelope> parse_envelope(std::string_view json);
// App and version come back only when they are an app name and a SemVer version, so both are safe
// as file names. Subjects: the manifest exactly once, parts.json at most once, no other. Fields
// that in-toto doesn't name are ignored, as its specification demands.
base::Result<Statement> parse_statement(std::string_view payload);

struct Verified {
  Statement statement;
  std::vector<PublicKey> signed_by;  // different keys, at least `threshold`
};
// Order of refusal: shape, payloadType, no signatures, no trusted keys (with the signers' key ids
// and the `updagent trust add` line in the hint), unknown keys, bad signature, threshold,
// statement, predicate. A key counts once, however often it signed. The key id in an envelope is
// only a hint (DSSE): every trusted key is tried. A signature that doesn't count does no harm to
// those that do.
base::Result<Verified> verify_envelope(std::string_view json, const TrustSet& trust);

// DSSE pre-authentication encoding: "DSSEv1 LEN(type) type LEN(body) body".
std::string pae(std::string_view payload_type, std::string_view payload);

std::string make_statement(const Statement& statement);
base::Result<std::string> make_envelope(const Statement& statement,
                                        const std::vector<const PrivateKey*>& keys);
// Adds a signature; one that is there already (same key) is replaced. An envelope that is not of an
// updagent release is refused: nobody signs here what no one could read.
base::Result<std::string> add_signature(std::string_view envelope_json, const PrivateKey& key);
// A signature that was made elsewhere (an HSM). With the public key it is checked first, and raw
// r||s, which PKCS#11 devices give for ECDSA, is accepted as well; with the key id alone it is
// taken as it is.
base::Result<std::string> attach_signature(std::string_view envelope_json, const PublicKey& key,
                                           std::string_view signature);
base::Result<std::string> attach_signature(std::string_view envelope_json,
                                           const std::string& key_id, std::string_view signature);
// All valid signatures of both, for a release whose new artifact carries more of them; one of each
// key, at most kMaxSignatures. Where the two sign different payloads (the same release with and
// without parts.json) they can't stand in one envelope: the one with more valid keys is returned,
// the kept one when equal.
base::Result<std::string> merge_signatures(std::string_view kept_json, std::string_view other_json,
                                           const TrustSet& trust);

}  // namespace updagent::trust
