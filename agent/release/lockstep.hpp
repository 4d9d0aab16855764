// An entry of the archive against what was signed: the two tar readers (ours, libarchive) and the
// manifest must say the same.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "agent/base/error.hpp"
#include "agent/release/manifest.hpp"
#include "agent/release/tar_header.hpp"

struct archive_entry;

namespace updagent::release {

// libarchive understood the entry as our own checker did, and nothing else hangs on it: owner, ACL,
// extended attributes, flags, holes, other times. Code::header_unsupported.
base::Status check_agreement(const TarHeader& header, archive_entry* parsed,
                             const std::optional<std::string>& warning);

// `header` is the entry that stands at `index` of the archive. Code::path_unsafe, entry_missing,
// entry_extra, entry_mismatch.
base::Status check_entry(const TarHeader& header, const EntryTable& table, std::size_t index);

// The envelope's and the manifest's header: a file `path` of mode 0644, whose size is the caller's
// to judge.
base::Status check_metadata_entry(const TarHeader& header, const char* path);

}  // namespace updagent::release
