#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "agent/base/files.hpp"
#include "agent/store/layout.hpp"
#include "agent/store/store.hpp"

namespace updagent::store {
namespace {

using base::Result;
using base::Status;
using base::UniqueFd;

constexpr std::int64_t kSecond = 1'000'000;
constexpr std::size_t kMaxIncoming = 10'000;  // names; each costs a killed run

struct Remains {
  std::string name;
  std::int64_t touched_us = 0;
  std::uint64_t bytes = 0;
};

// A directory's mtime is that of its last new name: of the last begin(), or later.
Result<Remains> look_at(int incoming_fd, const std::string& path, const std::string& name) {
  struct stat about{};
  if (::fstatat(incoming_fd, name.c_str(), &about, AT_SYMLINK_NOFOLLOW) != 0)
    return base::system_error(errno, cannot("look at", name));
  Remains one{name, about.st_mtim.tv_sec * kSecond + about.st_mtim.tv_nsec / 1000, 0};
  if (S_ISDIR(about.st_mode)) {
    UPD_ASSIGN(one.bytes, base::disk_usage(path + "/" + name));
  } else {
    one.bytes = static_cast<std::uint64_t>(about.st_size);
  }
  return one;
}

// DIGEST itself and DIGEST.left
bool belongs_to(const std::string& name, const std::string& keep) {
  return !keep.empty() && (name == keep || name == keep + kLeftSuffix);
}

// Removes those that are too old and returns the others.
Result<std::vector<Remains>> remove_old(int incoming_fd, const std::string& path,
                                        std::int64_t oldest_us, const std::string& keep) {
  UPD_ASSIGN(const std::vector<std::string> names, base::list_directory(path, kMaxIncoming));
  std::vector<Remains> left;
  for (const std::string& name : names) {
    const bool is_kept = belongs_to(name, keep);
    if (name.front() == '.' && !is_kept) {
      UPD_TRY(base::remove_tree(incoming_fd, name));
      continue;
    }
    UPD_ASSIGN(Remains one, look_at(incoming_fd, path, name));
    if (one.touched_us < oldest_us && !is_kept) {
      UPD_TRY(base::remove_tree(incoming_fd, name));
    } else {
      left.push_back(std::move(one));
    }
  }
  return left;
}

}  // namespace

Status AppStore::sweep(base::Milliseconds older_than, std::uint64_t max_bytes,
                       const std::string& keep) {
  for (const char* name : {".current.new", ".committed.new", ".data.new", ".cache.new"})
    UPD_TRY(base::remove_tree(directory_.get(), name));
  UPD_ASSIGN(const UniqueFd incoming,
             base::open_beneath(directory_.get(), kIncoming, O_RDONLY | O_DIRECTORY));
  const std::string path = path_ + "/" + kIncoming;
  const std::int64_t oldest_us = base::wall_now_us() - older_than.count() * 1000;
  UPD_ASSIGN(std::vector<Remains> left, remove_old(incoming.get(), path, oldest_us, keep));
  std::sort(left.begin(), left.end(),
            [](const Remains& a, const Remains& b) { return a.touched_us < b.touched_us; });
  std::uint64_t total = 0;
  for (const Remains& one : left) total += one.bytes;
  for (const Remains& one : left) {
    if (total <= max_bytes) break;
    if (belongs_to(one.name, keep)) continue;
    UPD_TRY(base::remove_tree(incoming.get(), one.name));
    total -= one.bytes;
  }
  return base::ok();
}

}  // namespace updagent::store
