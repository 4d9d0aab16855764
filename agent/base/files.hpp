// The seam to the file system. Everything that must survive a power cut goes through here, so that
// the failpoints "sys.*" can fail or kill at each call. Paths inside a directory are resolved with
// openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS): nothing leaves it.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/error.hpp"
#include "agent/base/unique_fd.hpp"

namespace updagent::base {

// --- open -------------------------------------------------------------------------------------
Result<UniqueFd> open_path(const std::string& path, int flags, mode_t mode = 0);  // O_CLOEXEC added
Result<UniqueFd> open_directory(const std::string& path);
// Beneath `directory_fd`, no symbolic link anywhere on the way, the last component included.
Result<UniqueFd> open_beneath(int directory_fd, const std::string& relative, int flags,
                              mode_t mode = 0);
bool exists(const std::string& path);  // lstat succeeds
bool exists_at(int directory_fd, const std::string& name);

// --- read -------------------------------------------------------------------------------------
// The whole file, refused past `max_bytes`.
Result<std::string> read_file(const std::string& path, std::size_t max_bytes);
Result<std::string> read_fd(int fd, std::string_view name_for_errors, std::size_t max_bytes);
// Where a symbolic link points; nothing if there is no link of that name.
Result<std::optional<std::string>> read_link_at(int directory_fd, const std::string& name);
// Names in a directory without . and .., sorted; refused past `max_entries`.
Result<std::vector<std::string>> list_directory(const std::string& path, std::size_t max_entries);

// --- write ------------------------------------------------------------------------------------
Status write_all(int fd, std::string_view bytes, std::string_view name_for_errors);
Status write_all(int fd, std::span<const std::uint8_t> bytes, std::string_view name_for_errors);
Status fsync_fd(int fd, std::string_view name_for_errors);
Status fsync_directory(const std::string& path);
// Flushes the whole file system of `fd` and reports write-back errors since it was opened.
Status syncfs_fd(int fd, std::string_view name_for_errors);

// mkdir -p with `mode` for what is made; every made directory's parent is fsynced.
Status make_directories(const std::string& path, mode_t mode);
Status make_directory_at(int directory_fd, const std::string& name, mode_t mode);

// rename(2) and fsync of both directories. With no_replace an existing target is EEXIST.
Status rename_durably(int from_directory_fd, const std::string& from, int to_directory_fd,
                      const std::string& to, bool no_replace = false);
// renameat2(RENAME_EXCHANGE) and fsync of both directories: each name has one of the two at every
// instant.
Status exchange_durably(int one_directory_fd, const std::string& one, int other_directory_fd,
                        const std::string& other);
// Temporary file, fsync, rename, fsync of the directory: readers see the old or the new content.
Status write_file_durably(const std::string& path, std::string_view content, mode_t mode);
// Removes what write_file_durably left in a directory when its process was killed.
Status remove_dead_temporaries(const std::string& directory);
// `name` -> `target` by a temporary link and rename(2), directory fsynced. A link that an earlier
// crash left under the temporary name is replaced.
Status replace_symlink_durably(int directory_fd, const std::string& name,
                               const std::string& target);
Status remove_file_durably(int directory_fd, const std::string& name);  // absent is fine

// Removes a tree without following a link; absent is fine. Bounded depth, see kMaxTreeDepth.
Status remove_tree(int directory_fd, const std::string& name);
inline constexpr int kMaxTreeDepth = 256;  // above release::kMaxPathDepth; one descriptor a level

// Bytes on disk (st_blocks) below path, links counted once.
Result<std::uint64_t> disk_usage(const std::string& path);

}  // namespace updagent::base
