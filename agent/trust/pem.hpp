// One PEM block (RFC 7468) and the names of what we don't take.
#pragma once

#include <string>
#include <string_view>

#include "agent/base/error.hpp"

namespace updagent::trust {

inline constexpr std::string_view kPublicKeyLabel = "PUBLIC KEY";    // SPKI
inline constexpr std::string_view kPrivateKeyLabel = "PRIVATE KEY";  // PKCS#8, not encrypted

// May hold a private key: wiped when it goes.
class SecretBytes {
 public:
  SecretBytes() = default;
  explicit SecretBytes(std::string bytes) : bytes_(std::move(bytes)) {}
  SecretBytes(const SecretBytes&) = delete;
  SecretBytes& operator=(const SecretBytes&) = delete;
  SecretBytes(SecretBytes&& other) noexcept : bytes_(std::move(other.bytes_)) {}
  SecretBytes& operator=(SecretBytes&& other) noexcept;
  ~SecretBytes();

  std::string_view view() const { return bytes_; }

 private:
  std::string bytes_;
};

// The DER of the only block in `pem`, whose label must be `label`. `name` is the key's, for errors.
base::Result<SecretBytes> read_pem(std::string_view pem, std::string_view label,
                                   const std::string& name);

// Error(key_unusable, "the key 'NAME' can't be used") with the two types that can be.
base::Error unusable_key(const std::string& name);

}  // namespace updagent::trust
