#include "agent/store/staged_tree.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "agent/base/failpoints.hpp"
#include "agent/base/files.hpp"
#include "agent/store/layout.hpp"

namespace updagent::store {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::Status;
using base::UniqueFd;

namespace failpoint = base::failpoint;

// link(2): EPERM also when the file system has no hard links or the file is immutable; ENOENT when
// neither AT_EMPTY_PATH nor /proc can name the descriptor.
constexpr std::array kCannotLink = {EXDEV, EMLINK, EPERM, EOPNOTSUPP, EACCES, ENOENT};

std::array<timespec, 2> only_mtime(std::int64_t mtime) {
  return {timespec{0, UTIME_OMIT}, timespec{static_cast<time_t>(mtime), 0}};
}

bool is_plain_component(std::string_view part) {
  return !part.empty() && part != "." && part != ".." && part.size() <= release::kMaxComponentBytes;
}

Status check_path(std::string_view path) {
  const auto refuse = [&](std::string_view why) {
    return Error(Code::path_unsafe, "an entry can't be put at '" + std::string(path) + "'")
        .expected("a relative path inside the release")
        .got(std::string(why));
  };
  if (path.find('\0') != std::string_view::npos) return refuse("a NUL byte");
  for (std::string_view rest = path;;) {
    const std::size_t slash = rest.find('/');
    if (!is_plain_component(rest.substr(0, slash))) return refuse("an unusable component");
    if (slash == std::string_view::npos) break;
    rest.remove_prefix(slash + 1);
  }
  const std::string_view first = path.substr(0, path.find('/'));
  if (first == release::kReservedFolder) return refuse("the folder of updagent itself");
  return base::ok();
}

// Root may name a descriptor directly; everybody else goes through /proc.
int link_descriptor(int fd, int parent_fd, const std::string& name) {
  if (const int injected = failpoint::fail("sys.link"); injected != 0) return injected;
  if (::linkat(fd, "", parent_fd, name.c_str(), AT_EMPTY_PATH) == 0) return 0;
  if (errno != ENOENT) return errno;
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  if (::linkat(AT_FDCWD, link.c_str(), parent_fd, name.c_str(), AT_SYMLINK_FOLLOW) == 0) return 0;
  return errno;
}

}  // namespace

Result<UniqueFd> create_file_at(int directory_fd, const std::string& name) {
  if (const int injected = failpoint::fail("sys.create"); injected != 0)
    return base::system_error(injected, cannot("create", name));
  return base::open_beneath(directory_fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
}

Status make_new_directory_at(int directory_fd, const std::string& name, mode_t mode) {
  const int injected = failpoint::fail("sys.mkdir");
  if (injected != 0 || ::mkdirat(directory_fd, name.c_str(), mode) != 0)
    return base::system_error(injected != 0 ? injected : errno, cannot("make the directory", name));
  return base::ok();
}

Status set_attributes(int fd, mode_t mode, std::int64_t mtime, std::string_view name) {
  const auto times = only_mtime(mtime);
  const int injected = failpoint::fail("sys.attributes");
  if (injected != 0 || ::futimens(fd, times.data()) != 0 || ::fchmod(fd, mode) != 0)
    return base::system_error(injected != 0 ? injected : errno,
                              cannot("set mode and time of", name));
  return base::ok();
}

Result<StagedTree::Place> StagedTree::place(std::string_view path) {
  UPD_TRY(check_path(path));
  const std::size_t slash = path.find_last_of('/');
  if (slash == std::string_view::npos) return Place{root_.get(), std::string(path)};
  const std::string_view parent = path.substr(0, slash);
  if (!parent_ || parent != parent_path_) {
    parent_.reset();
    parent_path_ = parent;
    UPD_ASSIGN(parent_, base::open_beneath(root_.get(), parent_path_, O_PATH | O_DIRECTORY));
  }
  return Place{parent_.get(), std::string(path.substr(slash + 1))};
}

Status StagedTree::make_directory(std::string_view path) {
  UPD_ASSIGN(const Place at, place(path));
  return make_new_directory_at(at.parent_fd, at.name, kPrivateDirectory);
}

Result<UniqueFd> StagedTree::create_file(std::string_view path) {
  UPD_ASSIGN(const Place at, place(path));
  return create_file_at(at.parent_fd, at.name);
}

Status StagedTree::make_symlink(std::string_view path, std::string_view target,
                                std::int64_t mtime) {
  UPD_ASSIGN(const Place at, place(path));
  const std::string to(target);
  const int injected = failpoint::fail("sys.symlink");
  if (injected != 0 || ::symlinkat(to.c_str(), at.parent_fd, at.name.c_str()) != 0)
    return base::system_error(injected != 0 ? injected : errno, cannot("make the link", path));
  const auto times = only_mtime(mtime);
  if (::utimensat(at.parent_fd, at.name.c_str(), times.data(), AT_SYMLINK_NOFOLLOW) != 0)
    return base::system_error(errno, cannot("set the time of", path));
  return base::ok();
}

Result<bool> StagedTree::link(int fd, std::string_view path) {
  UPD_ASSIGN(const Place at, place(path));
  const int failed = link_descriptor(fd, at.parent_fd, at.name);
  if (failed == 0) return true;
  if (std::find(kCannotLink.begin(), kCannotLink.end(), failed) != kCannotLink.end()) return false;
  return base::system_error(failed, cannot("link", path));
}

Status StagedTree::remove_file(std::string_view path) {
  UPD_ASSIGN(const Place at, place(path));
  if (::unlinkat(at.parent_fd, at.name.c_str(), 0) != 0)
    return base::system_error(errno, cannot("remove", path));
  return base::ok();
}

Result<UniqueFd> StagedTree::open(std::string_view path, int flags) const {
  UPD_TRY(check_path(path));
  return base::open_beneath(root_.get(), std::string(path), flags | O_NOFOLLOW | O_NONBLOCK);
}

}  // namespace updagent::store
