#include "agent/launch/notify_bind.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "agent/base/files.hpp"
#include "agent/base/text.hpp"

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76  // Linux 6.5, asm-generic/socket.h
#endif

namespace updagent::launch {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::Status;
using base::UniqueFd;

constexpr std::size_t kMaxSocketPath = sizeof(sockaddr_un::sun_path) - 1;

std::string quoted_path(const std::string& path) {
  return "'" + base::printable(path) + "'";
}

Status cannot_bind(int errno_value, const std::string& path) {
  return base::system_error(errno_value, "cannot bind the notify socket " + quoted_path(path));
}

Status check_folder(int folder_fd, const std::string& path) {
  struct stat status{};
  if (::fstat(folder_fd, &status) != 0) return cannot_bind(errno, path);
  const bool ours = status.st_uid == 0 || status.st_uid == ::geteuid();
  if (ours && (status.st_mode & (S_IWGRP | S_IWOTH)) == 0) return base::ok();
  return Error(Code::config_invalid,
               "the folder of the notify socket " + quoted_path(path) + " is open to others")
      .expected("a folder that only root or the supervisor's user can write to")
      .got("owner " + std::to_string(status.st_uid) + ", mode 0" +
           [&] {
             char text[8];
             (void)std::snprintf(text, sizeof text, "%o", status.st_mode & 07777U);
             return std::string(text);
           }())
      .hint("a service that can write there could put something else in its place");
}

// Nothing but a dead socket is ever replaced.
Status check_stale(int folder_fd, const std::string& name, const std::string& path) {
  struct stat status{};
  if (::fstatat(folder_fd, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0)
    return errno == ENOENT ? base::ok() : cannot_bind(errno, path);
  if (S_ISSOCK(status.st_mode)) return base::ok();
  return Error(Code::io_error, "something else is where the notify socket shall be")
      .expected("nothing, or a socket, at " + quoted_path(path))
      .got(S_ISLNK(status.st_mode) ? "a symbolic link" : "a file or folder");
}

// sun_path through /proc: the temporary name may be longer than the final one, and the folder is
// the one that was checked.
Status bind_at(int socket_fd, int folder_fd, const std::string& name) {
  const std::string where = "/proc/self/fd/" + std::to_string(folder_fd) + "/" + name;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (where.size() > kMaxSocketPath) return base::system_error(ENAMETOOLONG, "cannot bind");
  std::ranges::copy(where, address.sun_path);
  if (::bind(socket_fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return base::system_error(errno, "cannot bind at " + quoted_path(where));
  return base::ok();
}

Status place(int socket_fd, int folder_fd, const std::string& name, uid_t service_uid) {
  const std::string temporary = "." + name + ".new";
  (void)::unlinkat(folder_fd, temporary.c_str(), 0);  // of a predecessor that was killed just here
  // The file gets the mode of the unbound socket, less the umask: no moment with more.
  if (::fchmod(socket_fd, 0600) != 0) return base::system_error(errno, "cannot set its mode");
  UPD_TRY(bind_at(socket_fd, folder_fd, temporary));
  const bool placed = ::fchownat(folder_fd, temporary.c_str(), service_uid, static_cast<gid_t>(-1),
                                 AT_SYMLINK_NOFOLLOW) == 0 &&
                      ::renameat(folder_fd, temporary.c_str(), folder_fd, name.c_str()) == 0;
  if (placed) return base::ok();
  const int failed = errno;
  (void)::unlinkat(folder_fd, temporary.c_str(), 0);
  return base::system_error(failed, "cannot put the notify socket in its place");
}

}  // namespace

Status prepare_notify_socket(int socket_fd) {
  const int on = 1;
  if (::setsockopt(socket_fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0)
    return base::system_error(errno, "cannot ask for the senders of notify messages");
  // Absent before Linux 6.5: then the sender's pid is looked up when its message is read.
  (void)::setsockopt(socket_fd, SOL_SOCKET, SO_PASSPIDFD, &on, sizeof on);
  return base::ok();
}

Result<UniqueFd> bind_notify_socket(const std::string& path, uid_t service_uid) {
  const std::size_t slash = path.rfind('/');
  if (path.size() > kMaxSocketPath || !path.starts_with('/') || slash + 1 == path.size())
    return Error(Code::config_invalid, "the path of the notify socket can't be used")
        .expected("an absolute path of at most " + std::to_string(kMaxSocketPath) + " bytes")
        .got(quoted_path(path));
  const std::string name = path.substr(slash + 1);
  UPD_ASSIGN(const UniqueFd folder, base::open_directory(path.substr(0, std::max(slash, 1UL))));
  UPD_TRY(check_folder(folder.get(), path));
  UPD_TRY(check_stale(folder.get(), name, path));
  UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return Error(std::move(cannot_bind(errno, path)).error());
  // Before anybody can send: a message without credentials would be lost.
  UPD_TRY_CONTEXT(prepare_notify_socket(socket.get()), "notify socket " + quoted_path(path));
  UPD_TRY_CONTEXT(place(socket.get(), folder.get(), name, service_uid),
                  "notify socket " + quoted_path(path));
  return socket;
}

}  // namespace updagent::launch
