// Names and modes below apps/APP that more than one file of this folder must agree on.
#pragma once

#include <dirent.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "agent/base/error.hpp"
#include "agent/release/manifest.hpp"

namespace updagent::store {

inline constexpr const char* kReleases = "releases";
inline constexpr const char* kIncoming = "incoming";
inline constexpr const char* kData = "data";
inline constexpr const char* kCurrent = "current";
inline constexpr const char* kCommitted = "committed";
inline constexpr const char* kEnvelopeName = "release.dsse.json";  // in release::kReservedFolder
inline constexpr const char* kManifestName = "manifest.json";

// In incoming/. A name that starts with a dot is of use to nobody once its maker is gone.
inline constexpr const char* kLeftSuffix = ".left";  // DIGEST.left: what a killed run had unpacked
inline constexpr const char* kDryPrefix = ".dry-";   // a dry run's tree
inline constexpr const char* kRemovedPrefix =
    ".removed-";  // renamed out of releases/, being removed
inline constexpr const char* kEnvelopePrefix = ".envelope-";

// Nobody but the makers of releases may enter a tree that is not verified yet.
inline constexpr mode_t kPrivateDirectory = 0700;
inline constexpr mode_t kPublicDirectory = 0755;

// What an entry's mode is once it is installed: nobody writes files, only the owner directories.
mode_t installed_mode(release::EntryType type, std::uint16_t mode);

struct CloseListing {
  void operator()(DIR* listing) const { ::closedir(listing); }
};
using DirectoryListing = std::unique_ptr<DIR, CloseListing>;  // opendir(3), with one owner

// Owned by root or by ourselves, and by nobody else's leave.
bool is_trusted_owner(const struct stat& about);
bool is_others_writable(const struct stat& about);

// "0555"
std::string mode_text(mode_t mode);
// "cannot make 'a/b'": what system_error() wants.
std::string cannot(std::string_view verb, std::string_view name);
// ".removed-1.0.0-1f2e...": a name that nothing else has.
std::string unique_name(std::string_view prefix);

// One path component that can stand in releases/: not empty, no '/', no leading dot.
base::Status check_version_name(std::string_view version);

}  // namespace updagent::store
