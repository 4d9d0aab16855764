#include "agent/base/files.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <deque>
#include <memory>

#include "agent/base/failpoints.hpp"
#include "agent/base/text.hpp"

namespace updagent::base {
namespace {

constexpr unsigned kNoReplace = 1;  // RENAME_NOREPLACE of linux/fs.h
constexpr unsigned kExchange = 2;   // RENAME_EXCHANGE
constexpr std::string_view kTemporarySuffix = ".new";
// A folder of ours holds some dozens of files; one with more is not ours to walk through.
constexpr std::size_t kMaxSweptEntries = 100'000;

std::string quoted(std::string_view verb, std::string_view name) {
  return "cannot " + std::string(verb) + " '" + std::string(name) + "'";
}

// The failing errno of a call: the injected one, or errno when the call itself fails.
template <class Call>
int errno_of(std::string_view failpoint_name, Call call) {
  if (const int injected = failpoint::fail(failpoint_name); injected != 0) return injected;
  return call() == 0 ? 0 : errno;
}

struct CloseDir {
  void operator()(DIR* directory) const { ::closedir(directory); }
};
using Directory = std::unique_ptr<DIR, CloseDir>;

Directory open_listing(int directory_fd) {
  // a descriptor of its own: closedir closes it
  const int own_fd = ::openat(directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (own_fd < 0) return nullptr;
  Directory listing(::fdopendir(own_fd));
  if (!listing) ::close(own_fd);
  return listing;
}

bool is_dot(const char* name) {
  return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

std::string parent_of(const std::string& path) {
  const std::size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// All names before anything else is done in there, so that the walks below hold one descriptor a
// level and what they remove can't confuse readdir(3).
Result<std::vector<std::string>> names_in(int directory_fd, std::size_t max_entries,
                                          std::string_view name_for_errors) {
  const Directory listing = open_listing(directory_fd);
  if (!listing) return system_error(errno, quoted("list", name_for_errors));
  std::vector<std::string> names;
  for (;;) {
    errno = 0;
    const dirent* entry = ::readdir(listing.get());
    if (entry == nullptr) break;
    if (is_dot(entry->d_name)) continue;
    if (names.size() == max_entries)
      return Error(Code::io_error, quoted("list", name_for_errors))
          .expected("at most " + std::to_string(max_entries) + " names")
          .got("more");
    names.emplace_back(entry->d_name);
  }
  if (errno != 0) return system_error(errno, quoted("list", name_for_errors));
  return names;
}

// Of one directory of a tree that is removed or measured: far above what a release may hold, and
// a bound on memory for what someone else has put there.
constexpr std::size_t kMaxNames = 4'000'000;

Status remove_children(int directory_fd, const std::string& name, int depth);

Status remove_one(int directory_fd, const std::string& name, int depth) {
  if (::unlinkat(directory_fd, name.c_str(), 0) == 0 || errno == ENOENT) return ok();
  const int refused = errno;  // EPERM is also what an immutable file answers
  if (refused != EISDIR && refused != EPERM) return system_error(refused, quoted("remove", name));
  UniqueFd child(
      ::openat(directory_fd, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!child && errno == EACCES) {
    // a directory of a release may lack our own read bit when we are not root; if it can't be
    // given, the second open says why
    static_cast<void>(!::fchmodat(directory_fd, name.c_str(), 0700, 0));
    child.reset(
        ::openat(directory_fd, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  }
  if (!child) return system_error(errno == ENOTDIR ? refused : errno, quoted("remove", name));
  UPD_TRY(remove_children(child.get(), name, depth + 1));
  if (::unlinkat(directory_fd, name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT)
    return system_error(errno, quoted("remove", name));
  return ok();
}

Status remove_children(int directory_fd, const std::string& name, int depth) {
  if (depth > kMaxTreeDepth)
    return Error(Code::io_error, quoted("remove", name))
        .expected("at most " + std::to_string(kMaxTreeDepth) + " levels of directories")
        .got("more");
  struct stat about{};
  // without all three of our own bits it can't be listed and emptied (matters only without root)
  if (::fstat(directory_fd, &about) == 0 && (about.st_mode & S_IRWXU) != S_IRWXU)
    ::fchmod(directory_fd, (about.st_mode | S_IRWXU) & 07777);
  UPD_ASSIGN(const auto children, names_in(directory_fd, kMaxNames, name));
  for (const std::string& child : children) UPD_TRY(remove_one(directory_fd, child, depth));
  return ok();
}

// A file with several names: all of a release may be such. 16 bytes each, sorted at the end, where
// a set would take 60.
struct SharedFile {
  ino_t inode;
  std::uint64_t bytes;
  auto operator<=>(const SharedFile&) const = default;
};

struct Usage {
  dev_t device = 0;  // hard links don't leave it
  std::uint64_t bytes = 0;
  std::deque<SharedFile> shared;
};

std::uint64_t sum_of(Usage usage) {
  std::sort(usage.shared.begin(), usage.shared.end());
  const SharedFile* before = nullptr;
  for (const SharedFile& file : usage.shared) {
    if (before == nullptr || before->inode != file.inode) usage.bytes += file.bytes;
    before = &file;
  }
  return usage.bytes;
}

Status usage_below(int directory_fd, Usage& usage, int depth) {
  constexpr std::uint64_t kStatBlock = 512;  // st_blocks counts these, whatever the file system
  if (depth > kMaxTreeDepth)
    return Error(Code::io_error, "a tree can't be measured")
        .expected("at most " + std::to_string(kMaxTreeDepth) + " levels of directories")
        .got("more");
  UPD_ASSIGN(const auto names, names_in(directory_fd, kMaxNames, "a directory"));
  for (const std::string& name : names) {
    struct stat about{};
    if (::fstatat(directory_fd, name.c_str(), &about, AT_SYMLINK_NOFOLLOW) != 0) continue;
    const std::uint64_t bytes = static_cast<std::uint64_t>(about.st_blocks) * kStatBlock;
    if (about.st_nlink > 1 && !S_ISDIR(about.st_mode) && about.st_dev == usage.device) {
      usage.shared.push_back({about.st_ino, bytes});
      continue;
    }
    usage.bytes += bytes;
    if (!S_ISDIR(about.st_mode)) continue;
    const UniqueFd child(
        ::openat(directory_fd, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!child) continue;
    UPD_TRY(usage_below(child.get(), usage, depth + 1));
  }
  return ok();
}

}  // namespace

Result<UniqueFd> open_path(const std::string& path, int flags, mode_t mode) {
  UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC, mode));
  if (!fd) return system_error(errno, quoted("open", path));
  return fd;
}

Result<UniqueFd> open_directory(const std::string& path) {
  return open_path(path, O_RDONLY | O_DIRECTORY);
}

Result<UniqueFd> open_beneath(int directory_fd, const std::string& relative, int flags,
                              mode_t mode) {
  open_how how{};
  how.flags = static_cast<unsigned>(flags | O_CLOEXEC);
  how.mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? mode : 0;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  constexpr int kTries = 16;  // EAGAIN: a rename raced with the walk (openat2(2))
  for (int attempt = 0; attempt < kTries; ++attempt) {
    UniqueFd fd(
        static_cast<int>(::syscall(SYS_openat2, directory_fd, relative.c_str(), &how, sizeof how)));
    if (fd) return fd;
    if (errno != EAGAIN && errno != EINTR) break;
  }
  return system_error(errno, quoted("open", relative));
}

bool exists(const std::string& path) {
  struct stat about{};
  return ::lstat(path.c_str(), &about) == 0;
}

bool exists_at(int directory_fd, const std::string& name) {
  struct stat about{};
  return ::fstatat(directory_fd, name.c_str(), &about, AT_SYMLINK_NOFOLLOW) == 0;
}

Result<std::string> read_fd(int fd, std::string_view name_for_errors, std::size_t max_bytes) {
  std::string content;
  std::array<char, 64 * 1024> buffer{};
  for (;;) {
    const ssize_t count = ::read(fd, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return system_error(errno, quoted("read", name_for_errors));
    if (count == 0) return content;
    if (content.size() + static_cast<std::size_t>(count) > max_bytes)
      return Error(Code::io_error, quoted("read", name_for_errors))
          .expected("at most " + std::to_string(max_bytes) + " bytes")
          .got("more");
    content.append(buffer.data(), static_cast<std::size_t>(count));
  }
}

Result<std::string> read_file(const std::string& path, std::size_t max_bytes) {
  UPD_ASSIGN(const UniqueFd fd, open_path(path, O_RDONLY));
  return read_fd(fd.get(), path, max_bytes);
}

Result<std::optional<std::string>> read_link_at(int directory_fd, const std::string& name) {
  std::array<char, 4096> target{};  // PATH_MAX
  const ssize_t length = ::readlinkat(directory_fd, name.c_str(), target.data(), target.size());
  if (length < 0 && errno == ENOENT) return std::optional<std::string>();
  if (length < 0) return system_error(errno, quoted("read the link", name));
  return std::optional<std::string>(std::string(target.data(), static_cast<std::size_t>(length)));
}

Result<std::vector<std::string>> list_directory(const std::string& path, std::size_t max_entries) {
  UPD_ASSIGN(const UniqueFd fd, open_directory(path));
  UPD_ASSIGN(auto names, names_in(fd.get(), max_entries, path));
  std::sort(names.begin(), names.end());
  return names;
}

Status write_all(int fd, std::string_view bytes, std::string_view name_for_errors) {
  if (const int injected = failpoint::fail("sys.write"); injected != 0)
    return system_error(injected, quoted("write", name_for_errors));
  while (!bytes.empty()) {
    const ssize_t count = ::write(fd, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return system_error(errno, quoted("write", name_for_errors));
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
  return ok();
}

Status write_all(int fd, std::span<const std::uint8_t> bytes, std::string_view name_for_errors) {
  return write_all(fd, std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()),
                   name_for_errors);
}

Status fsync_fd(int fd, std::string_view name_for_errors) {
  const int failed = errno_of("sys.fsync", [&] { return ::fsync(fd); });
  if (failed != 0) return system_error(failed, quoted("fsync", name_for_errors));
  return ok();
}

Status fsync_directory(const std::string& path) {
  UPD_ASSIGN(const UniqueFd fd, open_directory(path));
  return fsync_fd(fd.get(), path);
}

Status syncfs_fd(int fd, std::string_view name_for_errors) {
  const int failed = errno_of("sys.syncfs", [&] { return ::syncfs(fd); });
  if (failed != 0) return system_error(failed, quoted("flush the file system of", name_for_errors));
  return ok();
}

Status make_directories(const std::string& path, mode_t mode) {
  struct stat about{};
  if (::stat(path.c_str(), &about) == 0) {
    if (S_ISDIR(about.st_mode)) return ok();
    return system_error(ENOTDIR, quoted("use", path));
  }
  const std::string parent = parent_of(path);
  if (parent != path) UPD_TRY(make_directories(parent, mode));
  if (::mkdir(path.c_str(), mode) != 0) {
    if (errno == EEXIST) return ok();  // someone else was faster
    return system_error(errno, quoted("make the directory", path));
  }
  // mkdir takes the umask off; what is asked for here is exact
  if (::chmod(path.c_str(), mode) != 0) return system_error(errno, quoted("chmod", path));
  return fsync_directory(parent);
}

Status make_directory_at(int directory_fd, const std::string& name, mode_t mode) {
  if (::mkdirat(directory_fd, name.c_str(), mode) != 0 && errno != EEXIST)
    return system_error(errno, quoted("make the directory", name));
  return ok();
}

namespace {

Status rename_with(unsigned flags, int from_directory_fd, const std::string& from,
                   int to_directory_fd, const std::string& to) {
  const int failed = errno_of("sys.rename", [&] {
    return static_cast<int>(::syscall(SYS_renameat2, from_directory_fd, from.c_str(),
                                      to_directory_fd, to.c_str(), flags));
  });
  if (failed != 0) return system_error(failed, quoted("rename", from) + " to '" + to + "'");
  UPD_TRY(fsync_fd(to_directory_fd, to));
  if (from_directory_fd != to_directory_fd) UPD_TRY(fsync_fd(from_directory_fd, from));
  return ok();
}

}  // namespace

Status rename_durably(int from_directory_fd, const std::string& from, int to_directory_fd,
                      const std::string& to, bool no_replace) {
  return rename_with(no_replace ? kNoReplace : 0U, from_directory_fd, from, to_directory_fd, to);
}

Status exchange_durably(int one_directory_fd, const std::string& one, int other_directory_fd,
                        const std::string& other) {
  return rename_with(kExchange, one_directory_fd, one, other_directory_fd, other);
}

Status write_file_durably(const std::string& path, std::string_view content, mode_t mode) {
  const std::string parent = parent_of(path);
  const std::string name = path.substr(path.find_last_of('/') + 1);
  // unique per process, so that two writers never share a temporary file
  const std::string temporary =
      "." + name + "." + std::to_string(::getpid()) + std::string(kTemporarySuffix);
  UPD_ASSIGN(const UniqueFd directory, open_directory(parent));
  ::unlinkat(directory.get(), temporary.c_str(), 0);
  UniqueFd file(::openat(directory.get(), temporary.c_str(),
                         O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode));
  if (!file) return system_error(errno, quoted("write", path));
  const auto finish = [&]() -> Status {
    if (::fchmod(file.get(), mode) != 0) return system_error(errno, quoted("chmod", path));
    UPD_TRY(write_all(file.get(), content, path));
    UPD_TRY(fsync_fd(file.get(), path));
    return rename_durably(directory.get(), temporary, directory.get(), name);
  };
  Status status = finish();
  if (!status) ::unlinkat(directory.get(), temporary.c_str(), 0);
  return status;
}

// ".NAME.PID.new" of a process that is gone; one whose number was given to another stays until that
// one has gone, too.
Status remove_dead_temporaries(const std::string& directory) {
  UPD_ASSIGN(const std::vector<std::string> names, list_directory(directory, kMaxSweptEntries));
  UPD_ASSIGN(const UniqueFd folder, open_directory(directory));
  for (const std::string& name : names) {
    if (!name.starts_with('.') || !name.ends_with(kTemporarySuffix)) continue;
    const std::string stem = name.substr(0, name.size() - kTemporarySuffix.size());
    const auto pid = parse_u64(std::string_view(stem).substr(stem.find_last_of('.') + 1));
    if (!pid || *pid == 0 || *pid > INT_MAX) continue;
    if (::kill(static_cast<pid_t>(*pid), 0) == 0 || errno != ESRCH) continue;
    if (::unlinkat(folder.get(), name.c_str(), 0) != 0 && errno != ENOENT)
      return system_error(errno, quoted("remove", std::string(directory).append("/").append(name)));
  }
  return ok();
}

Status replace_symlink_durably(int directory_fd, const std::string& name,
                               const std::string& target) {
  const std::string temporary = "." + name + ".new";
  const int failed = errno_of("sys.symlink", [&] {
    if (::symlinkat(target.c_str(), directory_fd, temporary.c_str()) == 0) return 0;
    if (errno != EEXIST) return -1;
    if (::unlinkat(directory_fd, temporary.c_str(), 0) != 0) return -1;
    return ::symlinkat(target.c_str(), directory_fd, temporary.c_str());
  });
  if (failed != 0) return system_error(failed, quoted("make the link", name));
  return rename_durably(directory_fd, temporary, directory_fd, name);
}

Status remove_file_durably(int directory_fd, const std::string& name) {
  if (::unlinkat(directory_fd, name.c_str(), 0) != 0) {
    if (errno == ENOENT) return ok();
    return system_error(errno, quoted("remove", name));
  }
  return fsync_fd(directory_fd, name);
}

Status remove_tree(int directory_fd, const std::string& name) {
  return remove_one(directory_fd, name, 0);
}

Result<std::uint64_t> disk_usage(const std::string& path) {
  UPD_ASSIGN(const UniqueFd fd, open_directory(path));
  struct stat about{};
  if (::fstat(fd.get(), &about) != 0) return system_error(errno, quoted("look at", path));
  Usage usage;
  usage.device = about.st_dev;
  UPD_TRY(usage_below(fd.get(), usage, 0));
  return sum_of(std::move(usage));
}

}  // namespace updagent::base
