// SemVer 2.0.0 (https://semver.org): parsing and precedence.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/error.hpp"

namespace updagent::release {

inline constexpr std::size_t kMaxVersionLength = 64;  // a file name with room to spare

struct SemVer {
  std::uint64_t major = 0;
  std::uint64_t minor = 0;
  std::uint64_t patch = 0;
  std::vector<std::string> prerelease;  // dot-separated identifiers
  std::string build;                    // after '+': part of the name, not of the precedence

  std::string text() const;
};

// Section 11 of the specification; build metadata is ignored.
std::strong_ordering precedence(const SemVer& a, const SemVer& b);

// Code::manifest_invalid with expected and got for anything that is not SemVer 2.0.0.
base::Result<SemVer> parse_semver(std::string_view text);

// ">=1.0.0", "<=", ">", "<", "=", a bare version ("=" is meant); a comma joins several (and).
// Precedence alone decides ("2.0.0-rc.1" satisfies ">=1.0.0"); "" asks for nothing and always
// holds.
base::Result<bool> satisfies(const SemVer& version, std::string_view requirement);

inline constexpr std::size_t kMaxAppLength = 64;
// Lower-case letters, digits, '.', '_', '-'; begins with a letter or digit; no ".."; at most 64.
bool is_app_name(std::string_view name);

}  // namespace updagent::release
