#include "agent/base/guarded_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>

#include "agent/base/files.hpp"
#include "agent/base/text.hpp"
#include "agent/base/unique_fd.hpp"

namespace updagent::base {
namespace {

std::string mode_text(mode_t mode) {
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "mode %04o", static_cast<unsigned>(mode & 07777));
  return text.data();
}

std::string uid_text(uid_t uid) {
  return uid == 0 ? "root" : "uid " + std::to_string(uid);
}

Status check_owner(const std::string& path, const struct stat& about, const Guard& guard) {
  const uid_t self = ::geteuid();
  if (guard.any_owner || about.st_uid == 0 || about.st_uid == self) return ok();
  return Error(guard.code, "'" + path + "' belongs to someone else, who could change it")
      .expected(self == 0 ? "owner root" : "owner root or " + uid_text(self))
      .got("owner " + uid_text(about.st_uid))
      .hint("chown " + (self == 0 ? std::string("root") : std::to_string(self)) + " " +
            shell_quoted(path));
}

Status check_mode(const std::string& path, const struct stat& about, const Guard& guard) {
  if ((about.st_mode & guard.forbidden) == 0) return ok();
  const bool secret = guard.forbidden == kOthersMayReadOrWrite;
  return Error(guard.code, "'" + path + "' can be " + (secret ? "read" : "changed") + " by others")
      .expected(secret ? "mode 0600" : "no write bit for group and others")
      .got(mode_text(about.st_mode))
      .hint((secret ? "chmod 600 " : "chmod go-w ") + shell_quoted(path));
}

Error refused(const Guard& guard, int errno_value, const std::string& path) {
  return {guard.code, system_error(errno_value, "cannot open '" + path + "'").message()};
}

Status check_regular(const std::string& path, const struct stat& about, const Guard& guard,
                     std::size_t max_bytes) {
  if (!S_ISREG(about.st_mode))
    return Error(guard.code, "'" + path + "' is not a regular file")
        .expected("a regular file")
        .got(S_ISDIR(about.st_mode) ? "a directory" : "a device, pipe or socket");
  if (static_cast<std::uint64_t>(about.st_size) > max_bytes)
    return Error(guard.code, "'" + path + "' is too large")
        .expected("at most " + std::to_string(max_bytes) + " bytes")
        .got(std::to_string(about.st_size));
  return ok();
}

}  // namespace

Result<std::optional<std::string>> read_guarded_file(const std::string& path, const Guard& guard,
                                                     std::size_t max_bytes) {
  // O_NONBLOCK: a FIFO under this name must not hang us before fstat shows what it is
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (!file && errno == ENOENT) return std::optional<std::string>();
  if (!file) return refused(guard, errno, path);
  struct stat about{};
  if (::fstat(file.get(), &about) != 0) return refused(guard, errno, path);
  UPD_TRY(check_regular(path, about, guard, max_bytes));
  UPD_TRY(check_owner(path, about, guard));
  UPD_TRY(check_mode(path, about, guard));
  UPD_ASSIGN(std::string content, read_fd(file.get(), path, max_bytes));
  return std::optional<std::string>(std::move(content));
}

Result<bool> check_guarded_directory(const std::string& path, const Guard& guard,
                                     bool sticky_is_enough) {
  struct stat about{};
  if (::stat(path.c_str(), &about) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) return false;
    return refused(guard, errno, path);
  }
  if (!S_ISDIR(about.st_mode)) return false;
  UPD_TRY(check_owner(path, about, guard));
  if (sticky_is_enough && (about.st_mode & S_ISVTX) != 0) return true;
  UPD_TRY(check_mode(path, about, guard));
  return true;
}

std::string shell_quoted(std::string_view word) {
  static constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=@%+,";
  if (!word.empty() && word.find_first_not_of(kPlain) == std::string_view::npos)
    return std::string(word);
  std::string out = "'";
  for (const char c : word) {
    if (c == '\'') {
      out += "'\\''";
    } else {
      out += c;
    }
  }
  return out + "'";
}

}  // namespace updagent::base
