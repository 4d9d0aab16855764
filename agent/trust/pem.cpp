#include "agent/trust/pem.hpp"

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>

#include "agent/base/guarded_file.hpp"

namespace updagent::trust {
namespace {

using base::Code;
using base::Error;
using base::Result;

struct FreeBio {
  void operator()(BIO* bio) const { BIO_free(bio); }
};
using Bio = std::unique_ptr<BIO, FreeBio>;

struct Block {
  std::string label;
  std::string header;  // of the old encrypted form (RFC 1421)
  SecretBytes der;
};

std::optional<Block> next_block(BIO* bio) {
  char* label = nullptr;
  char* header = nullptr;
  unsigned char* data = nullptr;
  long length = 0;
  const bool found = PEM_read_bio(bio, &label, &header, &data, &length) == 1;
  ERR_clear_error();
  if (!found) return std::nullopt;
  const auto size = static_cast<std::size_t>(length);
  Block block{label, header, SecretBytes(std::string(reinterpret_cast<const char*>(data), size))};
  OPENSSL_free(label);
  OPENSSL_free(header);
  OPENSSL_clear_free(data, size);
  return block;
}

struct Foreign {
  std::string_view label;
  std::string_view what;
  std::string_view mend;  // a command that takes the file's name at its end, "" = make a new key
};

// What people try first, each with the way out.
constexpr std::array<Foreign, 9> kForeign = {{
    {"ENCRYPTED PRIVATE KEY", "a private key encrypted with a passphrase",
     "openssl pkcs8 -topk8 -nocrypt -out NEW.key -in "},
    {"EC PRIVATE KEY", "an EC private key in SEC1 form",
     "openssl pkcs8 -topk8 -nocrypt -out NEW.key -in "},
    {"EC PARAMETERS", "EC parameters in front of a key in SEC1 form",
     "openssl pkcs8 -topk8 -nocrypt -out NEW.key -in "},
    {"RSA PRIVATE KEY", "an RSA private key", ""},
    {"RSA PUBLIC KEY", "an RSA public key", ""},
    {"OPENSSH PRIVATE KEY", "an OpenSSH private key", ""},
    {"CERTIFICATE", "a certificate", "openssl x509 -pubkey -noout -in "},
    {kPublicKeyLabel, "a public key", "give the private half of the pair, not "},
    {kPrivateKeyLabel, "a private key: this file must stay secret", "openssl pkey -pubout -in "},
}};

Error wrong_label(const Block& block, std::string_view label, const std::string& name) {
  const auto* known = std::find_if(kForeign.begin(), kForeign.end(),
                                   [&](const Foreign& one) { return one.label == block.label; });
  Error error = unusable_key(name).expected("a PEM block '" + std::string(label) + "'");
  if (known == kForeign.end()) return std::move(error).got("'" + block.label + "'");
  error = std::move(error).got(std::string(known->what));
  if (known->mend.empty()) return error;
  return std::move(error).hint(std::string(known->mend) + base::shell_quoted(name));
}

}  // namespace

SecretBytes::~SecretBytes() {
  OPENSSL_cleanse(bytes_.data(), bytes_.size());
}

SecretBytes& SecretBytes::operator=(SecretBytes&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

Error unusable_key(const std::string& name) {
  return Error(Code::key_unusable, "the key '" + name + "' can't be used")
      .expected("Ed25519 or ECDSA P-256")
      .hint("make a pair with: updagent keygen --out DIR --name NAME");
}

Result<SecretBytes> read_pem(std::string_view pem, std::string_view label,
                             const std::string& name) {
  const Bio bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  if (!bio) return Error(Code::internal, "OpenSSL has no memory left");
  auto block = next_block(bio.get());
  if (!block)
    return unusable_key(name)
        .expected("a PEM block '" + std::string(label) + "'")
        .got(pem.starts_with("ssh-") || pem.starts_with("ecdsa-") ? "an OpenSSH public key"
                                                                  : "no PEM block");
  if (block->header.find("ENCRYPTED") != std::string::npos) block->label = "ENCRYPTED PRIVATE KEY";
  if (block->label != label) return wrong_label(*block, label, name);
  if (next_block(bio.get()))
    return unusable_key(name).expected("one key in a file").got("a second PEM block");
  return std::move(block->der);
}

}  // namespace updagent::trust
