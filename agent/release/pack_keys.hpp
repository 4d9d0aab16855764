// Keeps private keys out of releases: one that signs is refused, any other is told.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/digest.hpp"
#include "agent/base/error.hpp"

namespace updagent::release {

inline constexpr std::size_t kKeyHeadBytes = 64;  // where a PEM file says what it is

// "-----BEGIN PRIVATE KEY-----", with any words before PRIVATE.
bool begins_with_private_key(std::span<const std::uint8_t> head);

base::Error is_the_private_key(std::string_view path);

// The contents of the keys that sign, to know a copy of one under another name.
class SigningKeys {
 public:
  // What can't be read is left out: signing itself will say so.
  explicit SigningKeys(const std::vector<std::string>& paths);
  bool contains(const base::Digest& digest) const;

 private:
  std::vector<base::Digest> digests_;
};

}  // namespace updagent::release
