#include "agent/store/content_check.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <thread>

#include "agent/base/files.hpp"
#include "agent/store/layout.hpp"

namespace updagent::store {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::UniqueFd;
using release::EntryType;
using release::EntryView;

// More gains little (the disk or the memory is the limit then) and takes processors from the users.
constexpr std::size_t kMaxWorkers = 4;
// Below this a thread costs about what it saves.
constexpr std::uint64_t kBytesPerWorker = 4 * 1024 * 1024;
constexpr std::size_t kFilesPerWorker = 200;

}  // namespace

ContentCheck::ContentCheck(int root_fd, const release::EntryTable& table,
                           base::Interrupt* interrupt)
    : root_fd_(root_fd), table_(table), interrupt_(interrupt) {}

void ContentCheck::add(std::size_t index, std::uint64_t bytes) {
  files_.push_back(index);
  total_bytes_ += bytes;
}

std::size_t ContentCheck::workers_worth_starting() const {
  const std::size_t work =
      std::max(total_bytes_ / kBytesPerWorker, files_.size() / kFilesPerWorker);
  const std::size_t processors = std::max(1U, std::thread::hardware_concurrency());
  return std::min({kMaxWorkers, processors, work + 1, std::max<std::size_t>(1, files_.size())});
}

Result<std::vector<ContentProblem>> ContentCheck::run(std::size_t max_problems) {
  std::vector<std::jthread> others;
  const std::size_t workers = workers_worth_starting();
  while (others.size() + 1 < workers) {
    try {
      others.emplace_back([this, max_problems] { work(max_problems); });
    } catch (const std::system_error&) {
      break;  // no more threads to be had: this one does it all
    }
  }
  work(max_problems);
  others.clear();  // joins
  if (error_) return std::move(*error_);
  std::sort(problems_.begin(), problems_.end(),
            [](const ContentProblem& a, const ContentProblem& b) { return a.index < b.index; });
  return std::move(problems_);
}

void ContentCheck::work(std::size_t max_problems) {
  FileHasher hasher;
  while (!stop_) {
    const std::size_t mine = next_.fetch_add(1);
    if (mine >= files_.size()) return;
    auto found = look_at(table_.at(files_[mine]), hasher);
    if (found && !*found) continue;
    const std::lock_guard lock(mutex_);
    if (!found) {
      if (!error_) error_ = std::move(found).error();
      stop_ = true;
    } else {
      problems_.push_back({files_[mine], std::move(**found)});
      if (problems_.size() >= max_problems) stop_ = true;
    }
  }
}

Result<std::optional<std::string>> ContentCheck::look_at(const EntryView& entry,
                                                         FileHasher& hasher) {
  // a hard link repeats its target's bytes; where the file system has no links it is a copy
  EntryView content = entry;
  if (entry.type == EntryType::hardlink) {
    const std::optional<std::size_t> target = table_.find(entry.link_target);
    if (!target) return Error(Code::internal, "a hard link without its target in the table");
    content = table_.at(*target);
  }
  UPD_ASSIGN(const UniqueFd file, base::open_beneath(root_fd_, std::string(entry.path),
                                                     O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  return compare(content, entry.path, file.get(), hasher);
}

Result<std::optional<std::string>> ContentCheck::compare(const EntryView& content,
                                                         std::string_view path, int fd,
                                                         FileHasher& hasher) {
  struct stat about{};
  if (::fstat(fd, &about) != 0) return base::system_error(errno, cannot("look at", path));
  const auto size = static_cast<std::uint64_t>(about.st_size);
  if (!S_ISREG(about.st_mode) || size != content.size)
    return "expected " + std::to_string(content.size) + " bytes, got " + std::to_string(size);
  const bool privileged = ::fgetxattr(fd, "security.capability", nullptr, 0) >= 0;
  const auto digest = hasher.hash(fd, path, interrupt_);
  bytes_checked_ += size;
  if (!digest && digest.error().code() == Code::interrupted) return digest.error();
  if (!digest) return digest.error().line();  // a bad sector is damage, and the others count too
  if (*digest != content.sha256)
    return "expected sha256 " + content.sha256.hex() + ", got " + digest->hex();
  if (privileged) return "expected no file capabilities, got some";
  return std::optional<std::string>();
}

}  // namespace updagent::store
