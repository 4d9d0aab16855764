#include "agent/journal/access.hpp"

#include <fcntl.h>
#include <grp.h>
#include <unistd.h>

#include <cerrno>
#include <optional>

#include "agent/base/files.hpp"
#include "agent/journal/paths.hpp"

namespace updagent::journal {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::Status;

constexpr std::size_t kNssBuffer = 256 * 1024;  // a group entry carries all of its members
constexpr mode_t kPrivate = 0600;
constexpr mode_t kShared = 0640;

Result<gid_t> group_id(const std::string& name) {
  group entry{};
  group* found = nullptr;
  std::string buffer(kNssBuffer, '\0');
  const int failed = ::getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (failed != 0) return base::system_error(failed, "cannot look up the group '" + name + "'");
  if (found == nullptr)
    return Error(Code::config_invalid, "the group '" + name + "' does not exist on this node")
        .hint("create it (addgroup --system " + name + "), or correct [audit] group");
  return entry.gr_gid;
}

// By path: opening and closing the file would drop SQLite's locks of this process.
Status give(const std::string& path, mode_t mode, std::optional<gid_t> group) {
  struct stat about{};
  if (::lstat(path.c_str(), &about) != 0) {
    if (errno == ENOENT) return base::ok();
    return base::system_error(errno, "cannot look at '" + path + "'");
  }
  if (group && about.st_gid != *group &&
      ::lchown(path.c_str(), static_cast<uid_t>(-1), *group) != 0)
    return base::system_error(errno, "cannot give '" + path + "' to the audit group");
  if ((about.st_mode & 07777U) != mode && ::chmod(path.c_str(), mode) != 0)
    return base::system_error(errno, "cannot chmod '" + path + "'");
  return base::ok();
}

}  // namespace

Status make_database_file(const std::string& path) {
  // O_EXCL: a file that is there is never opened here, see give()
  const base::UniqueFd file(
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, kPrivate));
  if (!file && errno == EEXIST) return base::ok();
  if (!file && (errno == EACCES || errno == EROFS || errno == EPERM))
    return Error(Code::root_not_writable, "cannot write '" + path + "'")
        .hint("run it with sudo, or give --root DIR");
  if (!file) return base::system_error(errno, "cannot make '" + path + "'");
  return base::fsync_directory(directory_of(path));
}

Status share_with_group(const std::string& database_path, const std::string& group) {
  std::optional<gid_t> gid;
  if (!group.empty()) {
    UPD_ASSIGN(gid, group_id(group));
  }
  for (const char* suffix : {"", "-wal", "-shm"})
    UPD_TRY(give(database_path + suffix, group.empty() ? kPrivate : kShared, gid));
  return base::ok();
}

}  // namespace updagent::journal
