#include "agent/journal/reserve.hpp"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "agent/base/files.hpp"
#include "agent/journal/journal.hpp"
#include "agent/journal/paths.hpp"

namespace updagent::journal {
namespace {

// Taking the last of a nearly full disk would starve the database itself.
constexpr std::uint64_t kMinFreeBytes = 3 * kReserveBytes;

bool has_room(const std::string& directory) {
  struct statvfs about{};
  if (::statvfs(directory.c_str(), &about) != 0) return false;
  return static_cast<std::uint64_t>(about.f_bavail) * about.f_frsize >= kMinFreeBytes;
}

bool is_whole(const std::string& path) {
  struct stat about{};
  return ::lstat(path.c_str(), &about) == 0 && S_ISREG(about.st_mode) &&
         static_cast<std::uint64_t>(about.st_blocks) * 512 >= kReserveBytes;
}

}  // namespace

base::Status keep_reserve(const std::string& path) {
  if (is_whole(path) || !has_room(directory_of(path))) return base::ok();
  UPD_ASSIGN(const base::UniqueFd file,
             base::open_path(path, O_WRONLY | O_CREAT | O_NOFOLLOW, 0600));
  const int failed = ::posix_fallocate(file.get(), 0, static_cast<off_t>(kReserveBytes));
  if (failed == 0) return base::ok();
  ::unlink(path.c_str());
  return base::system_error(failed, "cannot reserve space in '" + path + "'");
}

bool give_up_reserve(const std::string& path) {
  if (::unlink(path.c_str()) != 0) return false;
  // some file systems hand freed blocks out only after the removal is on disk
  static_cast<void>(base::fsync_directory(directory_of(path)).has_value());
  return true;
}

}  // namespace updagent::journal
