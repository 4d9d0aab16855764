// forget() and sweep(): the end of part files.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "agent/base/clock.hpp"
#include "agent/base/digest.hpp"
#include "agent/base/files.hpp"
#include "agent/fetch/fetch.hpp"
#include "agent/fetch/part_file.hpp"
#include "agent/fetch/url.hpp"

namespace updagent::fetch {
namespace {

constexpr std::size_t kMaxNames =
    100'000;  // far past what URLs a node can have, below a stuck sweep

struct Part {
  std::string key;
  std::uint64_t bytes = 0;  // on disk
  std::int64_t touched_us = 0;
};

bool is_key(std::string_view text) {
  return base::Digest::from_hex(text).has_value();
}

// "KEY.part" -> "KEY"; "" for anything else.
std::string key_of(const std::string& name, std::string_view suffix) {
  if (!name.ends_with(suffix)) return "";
  const std::string key = name.substr(0, name.size() - suffix.size());
  return is_key(key) ? key : "";
}

// ".KEY.json.123.new": what write_file_durably leaves when it is killed.
bool is_leftover(const std::string& name) {
  constexpr std::size_t kKeyLength = 64;
  return name.starts_with('.') && name.ends_with(".new") && name.size() > kKeyLength + 1 &&
         is_key(std::string_view(name).substr(1, kKeyLength));
}

// The state first: a part without a state is worth nothing, and that is what a crash may leave.
base::Status remove_pair(int directory_fd, const std::string& key) {
  UPD_TRY(base::remove_file_durably(directory_fd, key + std::string(kStateSuffix)));
  return base::remove_file_durably(directory_fd, key + std::string(kPartSuffix));
}

std::int64_t touched_us(const struct stat& about) {
  return std::int64_t{about.st_mtim.tv_sec} * 1'000'000 + about.st_mtim.tv_nsec / 1000;
}

std::optional<Part> inspect(int part_fd, const std::string& key) {
  constexpr std::uint64_t kStatBlock = 512;  // st_blocks counts these, whatever the file system
  struct stat about{};
  if (::fstat(part_fd, &about) != 0 || !S_ISREG(about.st_mode)) return std::nullopt;
  return Part{key, static_cast<std::uint64_t>(about.st_blocks) * kStatBlock, touched_us(about)};
}

base::Result<base::UniqueFd> open_part(int directory_fd, const std::string& key) {
  return base::open_beneath(directory_fd, key + std::string(kPartSuffix), O_RDONLY | O_NONBLOCK);
}

// False: a fetch has it, or has changed it since it was listed.
base::Result<bool> remove_unused(int directory_fd, const Part& listed) {
  const auto fd = open_part(directory_fd, listed.key);
  if (!fd || ::flock(fd->get(), LOCK_EX | LOCK_NB) != 0) return false;
  const auto now = inspect(fd->get(), listed.key);
  if (!now || now->touched_us != listed.touched_us) return false;
  UPD_TRY(remove_pair(directory_fd, listed.key));
  return true;
}

base::Status sweep_stray(int directory_fd, const std::string& name, std::int64_t oldest_us) {
  const std::string key = key_of(name, kStateSuffix);
  // its part is made before a state is, so a state alone belongs to nothing
  const bool orphan =
      !key.empty() && !base::exists_at(directory_fd, key + std::string(kPartSuffix));
  struct stat about{};
  const bool old = ::fstatat(directory_fd, name.c_str(), &about, AT_SYMLINK_NOFOLLOW) == 0 &&
                   touched_us(about) < oldest_us;
  if (orphan || (old && is_leftover(name))) return base::remove_file_durably(directory_fd, name);
  return base::ok();
}

}  // namespace

void forget(const std::string& download_directory, const std::string& url) {
  const auto parsed = parse_url(url);
  if (!parsed || parsed->scheme == "file") return;
  const auto directory = base::open_directory(download_directory);
  if (!directory) return;
  // Best effort by contract: sweep() takes what stays.
  const auto removed = remove_pair(directory->get(), storage_key(*parsed));
  static_cast<void>(removed);
}

base::Status sweep(const std::string& download_directory, base::Milliseconds older_than,
                   std::uint64_t max_total_bytes) {
  if (!base::exists(download_directory)) return base::ok();
  UPD_ASSIGN(const base::UniqueFd directory, base::open_directory(download_directory));
  UPD_ASSIGN(const auto names, base::list_directory(download_directory, kMaxNames));
  const std::int64_t oldest_us = base::wall_now_us() - older_than.count() * 1000;
  std::vector<Part> parts;
  std::uint64_t total = 0;
  for (const std::string& name : names) {
    UPD_TRY(sweep_stray(directory.get(), name, oldest_us));
    const std::string key = key_of(name, kPartSuffix);
    if (key.empty()) continue;
    const auto fd = open_part(directory.get(), key);
    const auto part = fd ? inspect(fd->get(), key) : std::nullopt;
    if (!part) continue;  // removed meanwhile
    total += part->bytes;
    parts.push_back(*part);
  }
  std::sort(parts.begin(), parts.end(),
            [](const Part& a, const Part& b) { return a.touched_us < b.touched_us; });
  for (const Part& part : parts) {
    if (part.touched_us >= oldest_us && total <= max_total_bytes) break;
    UPD_ASSIGN(const bool removed, remove_unused(directory.get(), part));
    if (removed) total -= part.bytes;
  }
  return base::ok();
}

}  // namespace updagent::fetch
