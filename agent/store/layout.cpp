#include "agent/store/layout.hpp"

#include <unistd.h>

#include <array>
#include <cstdio>

#include "agent/base/random.hpp"
#include "agent/base/text.hpp"

namespace updagent::store {

mode_t installed_mode(release::EntryType type, std::uint16_t mode) {
  switch (type) {
    case release::EntryType::directory:
      return mode & 0755U;
    case release::EntryType::symlink:
      return 0777U;
    case release::EntryType::file:
    case release::EntryType::hardlink:
      break;
  }
  return mode & 0555U;
}

bool is_trusted_owner(const struct stat& about) {
  return about.st_uid == 0 || about.st_uid == ::geteuid();
}

bool is_others_writable(const struct stat& about) {
  return (about.st_mode & (S_IWGRP | S_IWOTH)) != 0;
}

std::string mode_text(mode_t mode) {
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "%04o", static_cast<unsigned>(mode & 07777U));
  return text.data();
}

std::string cannot(std::string_view verb, std::string_view name) {
  return "cannot " + std::string(verb) + " '" + std::string(name) + "'";
}

std::string unique_name(std::string_view prefix) {
  constexpr std::size_t kRandomBytes = 8;
  const std::string random = base::random_bytes(kRandomBytes);
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(random.data());
  return std::string(prefix) + base::to_hex(std::span(bytes, random.size()));
}

base::Status check_version_name(std::string_view version) {
  const bool fits = !version.empty() && version.size() <= release::kMaxComponentBytes &&
                    version.front() != '.' &&
                    version.find_first_of(std::string_view("/\0", 2)) == std::string_view::npos;
  if (fits) return base::ok();
  return base::Error(base::Code::path_unsafe, "a version can't be the name of a folder")
      .expected("a version such as 1.4.2")
      .got("'" + std::string(version) + "'");
}

}  // namespace updagent::store
