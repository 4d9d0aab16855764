#include "agent/listen/socket_folder.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <deque>
#include <sstream>
#include <vector>

namespace updagent::listen {
namespace {

using base::Error;
using base::Result;
using base::Status;
using base::UniqueFd;

constexpr int kMaxLinks = 40;  // as the kernel follows, path_resolution(7)
constexpr int kAsItIs = O_PATH | O_NOFOLLOW | O_CLOEXEC;

bool is_ours(uid_t uid) {
  return uid == 0 || uid == ::geteuid();
}

// Can nobody but root and ourselves put something else at this name of the folder?
bool is_guarded(const struct stat& folder, const struct stat& entry) {
  if (!is_ours(folder.st_uid)) return false;
  if ((folder.st_mode & (S_IWGRP | S_IWOTH)) == 0) return true;
  return (folder.st_mode & S_ISVTX) != 0 && is_ours(entry.st_uid);
}

class Walk {
 public:
  explicit Walk(const std::string& path) : path_(path) {}

  Result<SocketFolder> to_the_end() {
    UPD_TRY(go_into(path_));
    while (!left_.empty()) {
      const std::string name = std::move(left_.front());
      left_.pop_front();
      UPD_TRY(step(name));
    }
    return std::move(here_);
  }

 private:
  Error failed() const {
    return base::system_error(errno, "cannot open the folder '" + path_ + "'");
  }

  // The components of a path or of a link's target come next.
  Status go_into(const std::string& path) {
    std::vector<std::string> names;
    std::istringstream text(path);
    for (std::string name; std::getline(text, name, '/');)
      if (!name.empty() && name != ".") names.push_back(name);
    left_.insert(left_.begin(), names.begin(), names.end());
    if (!path.starts_with('/')) return base::ok();
    here_.fd.reset(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
    return here_.fd ? base::ok() : Status(failed());
  }

  Status step(const std::string& name) {
    UniqueFd next(::openat(here_.fd.get(), name.c_str(), kAsItIs));
    struct stat folder{};
    struct stat entry{};
    if (!next || ::fstat(here_.fd.get(), &folder) != 0 || ::fstat(next.get(), &entry) != 0)
      return failed();
    const bool guarded = is_guarded(folder, entry);
    if (S_ISLNK(entry.st_mode)) return follow(next, name, entry, guarded);
    if (!S_ISDIR(entry.st_mode)) {
      errno = ENOTDIR;
      return failed();
    }
    here_.fixed = here_.fixed && guarded;
    here_.fd = std::move(next);
    return base::ok();
  }

  Status follow(const UniqueFd& link, const std::string& name, const struct stat& entry,
                bool guarded) {
    if (!guarded || !is_ours(entry.st_uid))
      return Error(base::Code::privilege, "'" + path_ + "' leads through the link '" + name +
                                              "' of uid " + std::to_string(entry.st_uid))
          .expected("no link that others than root may have made")
          .hint("give the folder's real path, or make the link as root in a folder of root's");
    std::array<char, PATH_MAX> target{};
    const ssize_t size = ::readlinkat(link.get(), "", target.data(), target.size());
    if (size < 0) return failed();
    if (++links_ > kMaxLinks || static_cast<std::size_t>(size) == target.size()) {
      errno = ELOOP;
      return failed();
    }
    return go_into(std::string(target.data(), static_cast<std::size_t>(size)));
  }

  const std::string& path_;
  SocketFolder here_;
  std::deque<std::string> left_;
  int links_ = 0;
};

}  // namespace

Result<SocketFolder> open_socket_folder(const std::string& path) {
  return Walk(path).to_the_end();
}

}  // namespace updagent::listen
