#include "agent/base/digest.hpp"

#include <openssl/evp.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <vector>

#include "agent/base/text.hpp"

namespace updagent::base {

std::string Digest::hex() const {
  return to_hex(bytes);
}

std::optional<Digest> Digest::from_hex(std::string_view hex) {
  if (hex.size() != 64 || hex.find_first_not_of("0123456789abcdef") != std::string_view::npos)
    return std::nullopt;
  const auto raw = base::from_hex(hex);
  if (!raw) return std::nullopt;
  Digest digest;
  std::copy(raw->begin(), raw->end(), digest.bytes.begin());
  return digest;
}

void Sha256::Free::operator()(evp_md_ctx_st* context) const {
  EVP_MD_CTX_free(context);
}

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  start();
}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

// OpenSSL fails here only without memory or without its default provider: there is no way on.
void Sha256::start() {
  if (!context_ || EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) != 1) std::abort();
}

void Sha256::update(std::span<const std::uint8_t> bytes) {
  if (EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) != 1) std::abort();
}

void Sha256::update(std::string_view text) {
  if (EVP_DigestUpdate(context_.get(), text.data(), text.size()) != 1) std::abort();
}

Digest Sha256::finish() {
  Digest digest;
  if (EVP_DigestFinal_ex(context_.get(), digest.bytes.data(), nullptr) != 1) std::abort();
  start();
  return digest;
}

Digest sha256(std::string_view bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.finish();
}

Result<Digest> sha256_of_fd(int fd, std::string_view name_for_errors) {
  constexpr std::size_t kChunk = 256 * 1024;  // fits the L2 cache
  std::vector<std::uint8_t> buffer(kChunk);
  Sha256 hash;
  for (;;) {
    const ssize_t count = ::read(fd, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return system_error(errno, "cannot read '" + std::string(name_for_errors) + "'");
    if (count == 0) return hash.finish();
    hash.update(std::span(buffer.data(), static_cast<std::size_t>(count)));
  }
}

}  // namespace updagent::base
