#include "agent/release/pack_files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "agent/base/files.hpp"
#include "agent/base/random.hpp"
#include "agent/base/text.hpp"
#include "agent/release/describe.hpp"

namespace updagent::release {

using base::Error;
using base::Status;

namespace {

// For file systems without O_TMPFILE: a name that is gone again before anything is written.
base::UniqueFd made_and_unlinked(const std::string& folder) {
  std::string name = folder + "/updagent-pack-XXXXXX";
  base::UniqueFd fd(::mkostemp(name.data(), O_CLOEXEC));
  if (fd) ::unlink(name.c_str());
  return fd;
}

// By chance, not by process id: containers that share a folder often have the same ids. Without the
// output's own name, which may be as long as a name can be.
std::string temporary_name() {
  constexpr std::size_t kRandomBytes = 8;
  const std::string random = base::random_bytes(kRandomBytes);
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(random.data());
  return ".updagent-pack-" + base::to_hex(std::span(bytes, random.size())) + ".new";
}

}  // namespace

base::Result<std::size_t> FileBytes::read(std::span<std::uint8_t> into) {
  ssize_t count = 0;
  do {
    count = ::read(fd_.get(), into.data(), into.size());
  } while (count < 0 && errno == EINTR);
  if (count < 0) return base::system_error(errno, "cannot read " + in_quotes(path_));
  return static_cast<std::size_t>(count);
}

base::Result<Spool> Spool::create() {
  const char* wanted = std::getenv("TMPDIR");
  const std::string folder = wanted == nullptr || *wanted == '\0' ? "/tmp" : wanted;
  constexpr mode_t kPrivate = 0600;
  base::UniqueFd fd(::open(folder.c_str(), O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, kPrivate));
  if (!fd) fd = made_and_unlinked(folder);
  if (!fd)
    return base::system_error(errno, "cannot make a temporary file in " + in_quotes(folder))
        .hint("set TMPDIR to a folder that can be written");
  return Spool(std::move(fd), folder);
}

Status Spool::append(std::span<const std::uint8_t> bytes) {
  if (Status status = base::write_all(fd_.get(), bytes, "a temporary file in " + folder_); !status)
    return Error(std::move(status).error()).hint("set TMPDIR to a folder with more room");
  size_ += bytes.size();
  return base::ok();
}

base::Result<std::size_t> Spool::Part::read(std::span<std::uint8_t> into) {
  const std::size_t wanted =
      static_cast<std::size_t>(std::min<std::uint64_t>(into.size(), end_ - at_));
  if (wanted == 0) return std::size_t{0};
  ssize_t count = 0;
  do {
    count = ::pread(fd_, into.data(), wanted, static_cast<off_t>(at_));
  } while (count < 0 && errno == EINTR);
  if (count < 0) return base::system_error(errno, "cannot read the temporary file");
  if (count == 0) return Error(base::Code::io_error, "the temporary file has become shorter");
  at_ += static_cast<std::uint64_t>(count);
  return static_cast<std::size_t>(count);
}

base::Result<OutputFile> OutputFile::create(const std::string& path) {
  OutputFile out;
  out.path_ = path;
  out.name_ = path.substr(path.find_last_of('/') + 1);
  if (out.name_.empty() || out.name_ == "." || out.name_ == "..")
    return Error(base::Code::usage, "the output is a folder")
        .expected("a file")
        .got(in_quotes(path));
  UPD_ASSIGN(out.directory_, base::open_directory(parent_folder(path)));
  UPD_TRY(out.open());
  return out;
}

Status OutputFile::open() {
  constexpr mode_t kAsUmaskSays = 0666;
  // linkat(2) gives such a file a name by way of /proc
  if (::access("/proc/self/fd", X_OK) == 0)
    file_.reset(::openat(directory_.get(), ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, kAsUmaskSays));
  if (file_) return base::ok();
  temporary_ = temporary_name();
  file_.reset(::openat(directory_.get(), temporary_.c_str(),
                       O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, kAsUmaskSays));
  if (!file_) return base::system_error(errno, "cannot write " + in_quotes(path_));
  return base::ok();
}

OutputFile::~OutputFile() {
  if (file_ && !temporary_.empty()) ::unlinkat(directory_.get(), temporary_.c_str(), 0);
}

Status OutputFile::write(std::span<const std::uint8_t> bytes) {
  UPD_TRY(base::write_all(file_.get(), bytes, path_));
  digest_.update(bytes);
  size_ += bytes.size();
  return base::ok();
}

// linkat(2) doesn't replace a file, rename(2) does: so first a name of its own.
Status OutputFile::give_temporary_name() {
  const std::string name = temporary_name();
  const std::string file = "/proc/self/fd/" + std::to_string(file_.get());
  if (::linkat(AT_FDCWD, file.c_str(), directory_.get(), name.c_str(), AT_SYMLINK_FOLLOW) != 0)
    return base::system_error(errno, "cannot write " + in_quotes(path_));
  temporary_ = name;
  return base::ok();
}

base::Result<base::Digest> OutputFile::commit() {
  UPD_TRY(base::fsync_fd(file_.get(), path_));
  if (temporary_.empty()) UPD_TRY(give_temporary_name());
  UPD_TRY(base::rename_durably(directory_.get(), temporary_, directory_.get(), name_));
  file_.reset();
  return digest_.finish();
}

std::string parent_folder(const std::string& path) {
  const std::size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace updagent::release
