// SHA-256 (FIPS 180-4) by OpenSSL.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "agent/base/error.hpp"

struct evp_md_ctx_st;

namespace updagent::base {

struct Digest {
  std::array<std::uint8_t, 32> bytes{};
  bool operator==(const Digest&) const = default;
  auto operator<=>(const Digest&) const = default;
  std::string hex() const;
  // 64 lower-case hex digits exactly: one spelling per digest.
  static std::optional<Digest> from_hex(std::string_view hex);
};

// Reusable: finish() starts over. About 1.4 GB/s with SHA-NI.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  void update(std::span<const std::uint8_t> bytes);
  void update(std::string_view text);
  Digest finish();

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };
  void start();
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

Digest sha256(std::string_view bytes);
// Of everything from the descriptor's current position to its end.
Result<Digest> sha256_of_fd(int fd, std::string_view name_for_errors);

}  // namespace updagent::base
