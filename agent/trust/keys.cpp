#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <array>

#include "agent/trust/pem.hpp"
#include "agent/trust/trust.hpp"

namespace updagent::trust {
namespace {

using base::Code;
using base::Error;
using base::Result;
using namespace std::string_view_literals;

struct FreeContext {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};
using Context = std::unique_ptr<EVP_MD_CTX, FreeContext>;

struct FreePkcs8 {
  void operator()(PKCS8_PRIV_KEY_INFO* info) const { PKCS8_PRIV_KEY_INFO_free(info); }
};

struct FreeBio {
  void operator()(BIO* bio) const { BIO_free(bio); }
};
using Bio = std::unique_ptr<BIO, FreeBio>;

// The only two shapes of a public key that count (RFC 8410; RFC 5480 with a named curve and an
// uncompressed point). A key has one DER here, so it has one key id and can't count twice.
struct Shape {
  KeyType type;
  std::string_view prefix;
  std::size_t size;
};
constexpr std::array<Shape, 2> kShapes = {{
    {KeyType::ed25519, "\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00"sv, 44},
    {KeyType::ecdsa_p256,
     "\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"
     "\x03\x42\x00\x04"sv,
     91},
}};

std::optional<KeyType> type_of_spki(std::string_view der) {
  for (const Shape& shape : kShapes)
    if (der.size() == shape.size && der.starts_with(shape.prefix)) return shape.type;
  return std::nullopt;
}

const unsigned char* bytes_of(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

Error openssl_failed(std::string what) {
  const char* reason = ERR_reason_error_string(ERR_peek_last_error());
  Error error(Code::internal, "OpenSSL can't " + std::move(what));
  if (reason != nullptr) error = std::move(error).got(reason);
  ERR_clear_error();
  return error;
}

// For a refusal: "RSA, 2048 bits", "ECDSA on secp384r1".
std::string describe(const EVP_PKEY* key) {
  const char* type = EVP_PKEY_get0_type_name(key);
  if (type == nullptr) return "a key of an unknown algorithm";
  const std::string name = type;
  if (name.starts_with("RSA"))
    return name + ", " + std::to_string(EVP_PKEY_get_bits(key)) + " bits";
  if (name != "EC") return name;
  std::array<char, 80> group{};
  std::size_t length = 0;
  const bool named = EVP_PKEY_get_group_name(key, group.data(), group.size(), &length) == 1;
  ERR_clear_error();
  if (!named) return "ECDSA on a curve without a name";
  if (std::string_view(group.data(), length) == SN_X9_62_prime256v1)
    return "ECDSA P-256 with a compressed point or explicit parameters";
  return "ECDSA on " + std::string(group.data(), length);
}

Result<std::string> spki_of(const EVP_PKEY* key) {
  unsigned char* der = nullptr;
  const int size = i2d_PUBKEY(key, &der);
  if (size <= 0) return openssl_failed("encode a public key");
  std::string out(reinterpret_cast<const char*>(der), static_cast<std::size_t>(size));
  OPENSSL_free(der);
  return out;
}

Result<PublicKey> public_key_from_spki(std::string_view der, std::string name, std::string path) {
  const std::string& shown = path.empty() ? name : path;
  const unsigned char* at = bytes_of(der);
  KeyHandle handle(d2i_PUBKEY(nullptr, &at, static_cast<long>(der.size())));
  ERR_clear_error();
  if (!handle) return unusable_key(shown).got("a damaged key or one of an unknown algorithm");
  const auto type = type_of_spki(der);
  if (!type) return unusable_key(shown).got(describe(handle.get()));
  return PublicKey{std::move(name), std::move(path), base::sha256(der).hex(), *type,
                   std::shared_ptr<evp_pkey_st>(std::move(handle))};
}

Result<KeyHandle> decode_pkcs8(std::string_view der, const std::string& path) {
  const unsigned char* at = bytes_of(der);
  const std::unique_ptr<PKCS8_PRIV_KEY_INFO, FreePkcs8> info(
      d2i_PKCS8_PRIV_KEY_INFO(nullptr, &at, static_cast<long>(der.size())));
  KeyHandle handle(info ? EVP_PKCS82PKEY(info.get()) : nullptr);
  ERR_clear_error();
  if (!handle || at != bytes_of(der) + der.size())
    return unusable_key(path).got("a damaged key or one of an unknown algorithm");
  return handle;
}

const EVP_MD* digest_of(KeyType type) {
  switch (type) {
    case KeyType::ed25519:
      return nullptr;  // hashes by itself (PureEdDSA)
    case KeyType::ecdsa_p256:
      return EVP_sha256();
  }
  return nullptr;
}

}  // namespace

void FreeKey::operator()(evp_pkey_st* key) const {
  EVP_PKEY_free(key);
}

std::string_view key_type_name(KeyType type) {
  switch (type) {
    case KeyType::ed25519:
      return "Ed25519";
    case KeyType::ecdsa_p256:
      return "ECDSA P-256";
  }
  return "";
}

std::string fingerprint(std::string_view key_id) {
  std::string out = "SHA256:";
  for (std::size_t at = 0; at < key_id.size(); at += 4) {
    if (at > 0) out += ' ';
    out += key_id.substr(at, 4);
  }
  return out;
}

Result<PrivateKey> PrivateKey::generate(KeyType type) {
  KeyHandle handle(type == KeyType::ed25519 ? EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519")
                                            : EVP_EC_gen(SN_X9_62_prime256v1));
  if (!handle) return openssl_failed("make a key");
  return PrivateKey(std::move(handle), type);
}

Result<PrivateKey> PrivateKey::from_pem(std::string_view pem, const std::string& path) {
  UPD_ASSIGN(const SecretBytes der, read_pem(pem, kPrivateKeyLabel, path));
  UPD_ASSIGN(KeyHandle handle, decode_pkcs8(der.view(), path));
  UPD_ASSIGN(const std::string spki, spki_of(handle.get()));
  const auto type = type_of_spki(spki);
  if (!type) return unusable_key(path).got(describe(handle.get()));
  PrivateKey key(std::move(handle), *type);
  // a file may carry a public half that is not of its private one
  UPD_ASSIGN(const PublicKey half, key.public_key());
  UPD_ASSIGN(const std::string signature, key.sign("updagent"));
  if (!signature_fits(half, "updagent", signature))
    return unusable_key(path).got("a private key whose public half is another key's");
  return key;
}

Result<std::string> PrivateKey::sign(std::string_view message) const {
  const Context context(EVP_MD_CTX_new());
  if (!context ||
      EVP_DigestSignInit(context.get(), nullptr, digest_of(type_), nullptr, handle_.get()) != 1)
    return openssl_failed("sign");
  std::array<unsigned char, kMaxSignatureBytes> signature{};
  std::size_t size = signature.size();
  if (EVP_DigestSign(context.get(), signature.data(), &size, bytes_of(message), message.size()) !=
      1)
    return openssl_failed("sign");
  return std::string(reinterpret_cast<const char*>(signature.data()), size);
}

Result<std::string> PrivateKey::to_pem() const {
  const Bio bio(BIO_new(BIO_s_secmem()));
  if (!bio || PEM_write_bio_PKCS8PrivateKey(bio.get(), handle_.get(), nullptr, nullptr, 0, nullptr,
                                            nullptr) != 1)
    return openssl_failed("encode a private key");
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &text);
  return std::string(text, static_cast<std::size_t>(size));
}

Result<PublicKey> PrivateKey::public_key() const {
  UPD_ASSIGN(const std::string spki, spki_of(handle_.get()));
  return public_key_from_spki(spki, "", "");
}

Result<PublicKey> parse_public_key(std::string_view pem, std::string name, std::string path) {
  UPD_ASSIGN(const SecretBytes der, read_pem(pem, kPublicKeyLabel, path.empty() ? name : path));
  return public_key_from_spki(der.view(), std::move(name), std::move(path));
}

Result<std::string> public_key_pem(const PublicKey& key) {
  const Bio bio(BIO_new(BIO_s_mem()));
  if (!bio || PEM_write_bio_PUBKEY(bio.get(), key.handle.get()) != 1)
    return openssl_failed("encode a public key");
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &text);
  return std::string(text, static_cast<std::size_t>(size));
}

bool signature_fits(const PublicKey& key, std::string_view message, std::string_view signature) {
  const Context context(EVP_MD_CTX_new());
  const bool fits = context && key.handle &&
                    EVP_DigestVerifyInit(context.get(), nullptr, digest_of(key.type), nullptr,
                                         key.handle.get()) == 1 &&
                    EVP_DigestVerify(context.get(), bytes_of(signature), signature.size(),
                                     bytes_of(message), message.size()) == 1;
  ERR_clear_error();  // a refused signature must not be the reason of someone else's later error
  return fits;
}

}  // namespace updagent::trust
