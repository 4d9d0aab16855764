#include "agent/fetch/part_file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>

#include "agent/base/clock.hpp"
#include "agent/base/files.hpp"
#include "agent/base/strict_json.hpp"
#include "agent/base/text.hpp"

namespace updagent::fetch {
namespace {

constexpr std::uint64_t kStateFormat = 1;
constexpr std::size_t kMaxStateBytes = 16 * 1024;  // two validators and some numbers
// What a power cut may cost at most: this many bytes, or this many seconds of a slow link.
constexpr std::uint64_t kCheckpointBytes = 64ULL << 20;
constexpr std::int64_t kCheckpointIntervalUs = 10'000'000;

std::string inode_of(int fd) {
  struct stat about{};
  return ::fstat(fd, &about) == 0 ? std::to_string(about.st_ino) : "";
}

// Nothing: another process has it.
base::Result<bool> lock_now(int fd) {
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return true;
  if (errno == EWOULDBLOCK) return false;
  return base::system_error(errno, "cannot lock a part file");
}

// A file of that name, ours alone (nobody else has linked it), or an error.
base::Status require_regular(int fd, const std::string& name) {
  struct stat about{};
  if (::fstat(fd, &about) != 0) return base::system_error(errno, "cannot stat '" + name + "'");
  if (!S_ISREG(about.st_mode) || about.st_nlink > 1)
    return base::Error(base::Code::io_error, "'" + name + "' is not a part file")
        .expected("a regular file with one link")
        .hint("remove it");
  return base::ok();
}

bool still_named(int directory_fd, int fd, const std::string& name) {
  struct stat own{};
  struct stat named{};
  return ::fstat(fd, &own) == 0 &&
         ::fstatat(directory_fd, name.c_str(), &named, AT_SYMLINK_NOFOLLOW) == 0 &&
         own.st_ino == named.st_ino && own.st_dev == named.st_dev;
}

// The named part file with its lock; an invalid descriptor when someone else has the lock.
base::Result<base::UniqueFd> open_locked(int directory_fd, const std::string& name) {
  constexpr int kTries = 16;  // sweep() or forget() may remove it between open and lock
  for (int attempt = 0; attempt < kTries; ++attempt) {
    UPD_ASSIGN(
        base::UniqueFd fd,
        base::open_beneath(directory_fd, name, O_RDWR | O_CREAT | O_APPEND | O_NONBLOCK, 0600));
    UPD_TRY(require_regular(fd.get(), name));
    UPD_ASSIGN(const bool locked, lock_now(fd.get()));
    if (!locked) return base::UniqueFd();
    if (still_named(directory_fd, fd.get(), name)) return fd;
  }
  return base::Error(base::Code::io_error,
                     "the part file '" + name + "' is removed again and again");
}

base::Result<base::UniqueFd> open_unnamed(const std::string& directory) {
  auto fd = base::open_path(directory, O_RDWR | O_TMPFILE | O_APPEND, 0600);
  if (!fd)
    return base::Error(base::Code::busy, "another process is fetching the same URL")
        .hint("try again when it has finished");
  return fd;
}

std::optional<std::uint64_t> number(const base::Json& json, const char* name) {
  const auto found = json.find(name);
  if (found == json.end() || !found->is_number_integer()) return std::nullopt;
  const auto value = found->get<std::int64_t>();
  return value < 0 ? std::nullopt : std::optional(static_cast<std::uint64_t>(value));
}

std::string text(const base::Json& json, const char* name) {
  const auto found = json.find(name);
  return found != json.end() && found->is_string() ? found->get<std::string>() : "";
}

}  // namespace

base::Result<PartFile> PartFile::open(const std::string& directory, const std::string& key) {
  UPD_TRY(base::make_directories(directory, 0700));
  UPD_ASSIGN(const base::UniqueFd directory_fd, base::open_directory(directory));
  UPD_ASSIGN(base::UniqueFd fd, open_locked(directory_fd.get(), key + std::string(kPartSuffix)));
  const bool named = static_cast<bool>(fd);
  if (!named) {
    UPD_ASSIGN(fd, open_unnamed(directory));
  }
  PartFile part(directory, key, std::move(fd), named);
  part.checkpoint_us_ = base::monotonic_now_us();
  if (named) {
    part.load_state();
    UPD_TRY(part.cut_to(part.length_));
  }
  return part;
}

std::string PartFile::path(std::string_view suffix) const {
  return directory_ + "/" + key_ + std::string(suffix);
}

std::string PartFile::quoted_name() const {
  std::string name = "'";
  name += path(kPartSuffix);
  return name += '\'';
}

// Whatever is odd about the state means that nothing is known: from zero, never a guess.
void PartFile::load_state() {
  struct stat about{};
  if (::fstat(file_.get(), &about) == 0 && read_state(static_cast<std::uint64_t>(about.st_size)))
    return;
  version_ = Version();
  length_ = 0;
  synced_ = 0;
}

bool PartFile::read_state(std::uint64_t size) {
  const auto content = base::read_file(path(kStateSuffix), kMaxStateBytes);
  if (!content) return false;
  const auto json =
      base::parse_strict_json(*content, base::Code::io_error, key_ + std::string(kStateSuffix));
  if (!json || !json->is_object()) return false;
  if (number(*json, "format") != kStateFormat || text(*json, "inode") != inode_of(file_.get()))
    return false;
  version_ = {text(*json, "etag"), text(*json, "last_modified"), number(*json, "total")};
  synced_ = std::min(number(*json, "synced").value_or(0), size);
  length_ = text(*json, "boot_id") == base::boot_id() ? size : synced_;
  return version_.has_validator() && length_ <= version_.total.value_or(length_);
}

base::Status PartFile::cut_to(std::uint64_t length) {
  if (::ftruncate(file_.get(), static_cast<off_t>(length)) != 0)
    return base::system_error(errno, "cannot shorten " + quoted_name());
  length_ = length;
  synced_ = std::min(synced_, length);
  return base::ok();
}

base::Status PartFile::write_state() {
  struct stat about{};
  if (::fstat(file_.get(), &about) != 0 || about.st_nlink == 0)
    return base::ok();  // unnamed by now
  base::Json json = {{"format", kStateFormat},     {"inode", inode_of(file_.get())},
                     {"boot_id", base::boot_id()}, {"synced", synced_},
                     {"etag", version_.etag},      {"last_modified", version_.last_modified}};
  if (version_.total) json["total"] = *version_.total;
  return base::write_file_durably(path(kStateSuffix), json.dump() + "\n", 0600);
}

base::Status PartFile::start_over(const Version& version) {
  UPD_TRY(cut_to(0));
  // The old bytes must be gone from the disk before the new validators are on it.
  UPD_TRY(base::fsync_fd(file_.get(), path(kPartSuffix)));
  version_ = version;
  checkpoint_us_ = base::monotonic_now_us();
  return write_state();
}

base::Status PartFile::append(std::string_view bytes) {
  auto written = base::write_all(file_.get(), bytes, path(kPartSuffix));
  if (!written) {
    // a part of it may have been written: it continues the file, so it counts
    struct stat about{};
    if (::fstat(file_.get(), &about) == 0) length_ = static_cast<std::uint64_t>(about.st_size);
    const auto kept = checkpoint();  // the first error is the one that tells
    static_cast<void>(kept);
    return out_of_space(std::move(written).error(), bytes.size());
  }
  length_ += bytes.size();
  const bool much = length_ - synced_ >= kCheckpointBytes;
  if (much || base::monotonic_now_us() - checkpoint_us_ >= kCheckpointIntervalUs)
    return checkpoint();
  return base::ok();
}

base::Status PartFile::set_total(std::uint64_t total) {
  version_.total = total;
  return write_state();
}

base::Status PartFile::checkpoint() {
  checkpoint_us_ = base::monotonic_now_us();
  // Without a validator no one can go on from here: not worth a flush.
  if (length_ == synced_ || !version_.has_validator() || !named_) return base::ok();
  if (auto flushed = base::fsync_fd(file_.get(), path(kPartSuffix)); !flushed) {
    // The kernel may have dropped the pages and called them clean (fsync(2)): only what an earlier
    // fsync confirmed is known to be there.
    const auto cut = cut_to(synced_);
    static_cast<void>(cut);
    length_ = synced_;
    return out_of_space(std::move(flushed).error(), 0);
  }
  synced_ = length_;
  return write_state();
}

base::Status PartFile::discard() {
  UPD_TRY(cut_to(0));
  version_ = Version();
  if (!named_) return base::ok();
  UPD_ASSIGN(const base::UniqueFd directory, base::open_directory(directory_));
  UPD_TRY(base::remove_file_durably(directory.get(), key_ + std::string(kStateSuffix)));
  if (still_named(directory.get(), file_.get(), key_ + std::string(kPartSuffix)))
    UPD_TRY(base::remove_file_durably(directory.get(), key_ + std::string(kPartSuffix)));
  return base::ok();
}

base::Result<std::string> PartFile::head(std::size_t bytes) const {
  std::string head(static_cast<std::size_t>(std::min<std::uint64_t>(bytes, length_)), '\0');
  std::size_t have = 0;
  while (have < head.size()) {
    const ssize_t count =
        ::pread(file_.get(), head.data() + have, head.size() - have, static_cast<off_t>(have));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return base::system_error(errno, "cannot read " + quoted_name());
    if (count == 0)
      return base::Error(base::Code::io_error, quoted_name() + " became shorter")
          .expected(std::to_string(length_) + " bytes")
          .got("fewer");
    have += static_cast<std::size_t>(count);
  }
  return head;
}

base::Status PartFile::require_space(std::uint64_t bytes) const {
  struct statvfs about{};
  // a file system that counts no blocks (some network and FUSE ones) can't be asked
  if (::fstatvfs(file_.get(), &about) != 0 || about.f_blocks == 0) return base::ok();
  const std::uint64_t free_bytes = std::uint64_t{about.f_bavail} * about.f_frsize;
  if (bytes <= free_bytes) return base::ok();
  return base::Error(base::Code::no_space,
                     "not enough space in '" + directory_ + "' for the download")
      .expected(base::human_bytes(bytes) + " free")
      .got(base::human_bytes(free_bytes))
      .hint("free some space and try again");
}

base::Error PartFile::out_of_space(base::Error error, std::uint64_t wanted) const {
  if (error.code() != base::Code::no_space) return error;
  struct statvfs about{};
  std::string free_text = "an unknown amount";
  if (::fstatvfs(file_.get(), &about) == 0)
    free_text = base::human_bytes(std::uint64_t{about.f_bavail} * about.f_frsize);
  const std::uint64_t missing =
      version_.total && *version_.total > length_ ? *version_.total - length_ : wanted;
  return std::move(error)
      .expected(base::human_bytes(missing) + " more to fit")
      .got(free_text + " free")
      .hint(base::human_bytes(length_) +
            " are kept: free some space and run the same command again");
}

base::Result<base::UniqueFd> PartFile::hand_over() && {
  if (::lseek(file_.get(), 0, SEEK_SET) != 0)
    return base::system_error(errno, "cannot rewind " + quoted_name());
  return std::move(file_);
}

}  // namespace updagent::fetch
