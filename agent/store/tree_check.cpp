#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>

#include "agent/base/files.hpp"
#include "agent/base/text.hpp"
#include "agent/store/content_check.hpp"
#include "agent/store/layout.hpp"
#include "agent/store/store.hpp"

namespace updagent::store {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::Status;
using base::UniqueFd;
using release::EntryType;
using release::EntryView;

std::string_view type_on_disk(mode_t mode) {
  if (S_ISREG(mode)) return "file";
  if (S_ISDIR(mode)) return "directory";
  if (S_ISLNK(mode)) return "symlink";
  return "special file";
}

std::string_view type_expected(EntryType type) {
  return type == EntryType::hardlink ? "file" : release::entry_type_name(type);
}

// One walk over the disk: what it finds is looked up in the manifest and ticked off; what is left
// without a tick is missing. Descriptors only, a name is never followed.
class TreeCheck {
 public:
  TreeCheck(const release::Manifest& manifest, base::Interrupt* interrupt)
      : table_(manifest.entries), interrupt_(interrupt), seen_(manifest.entries.size(), false) {}

  Status run(const std::string& path) {
    UPD_ASSIGN(const UniqueFd root, base::open_path(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    struct stat about{};
    if (::fstat(root.get(), &about) != 0) return base::system_error(errno, cannot("look at", path));
    check_owner(".", about);
    UPD_TRY(check_own_folder(root.get()));
    contents_.emplace(root.get(), table_, interrupt_);
    UPD_TRY(walk(root.get(), "", 0));
    if (!full()) UPD_TRY(check_contents());
    report_missing();
    return base::ok();
  }

  TreeReport take() { return std::move(report_); }

 private:
  bool full() const { return report_.problems.size() >= kMaxProblems; }
  void problem(std::string_view path, const std::string& what) {
    if (!full()) report_.problems.push_back(base::printable(path) + ": " + base::printable(what));
  }
  Status stop_if_asked() {
    if (interrupt_ == nullptr || !interrupt_->requested()) return base::ok();
    return Error(Code::interrupted, "interrupted while checking an installed release");
  }

  void check_owner(std::string_view path, const struct stat& about) {
    if (!is_trusted_owner(about))
      problem(path, "expected owner root or uid " + std::to_string(::geteuid()) + ", got uid " +
                        std::to_string(about.st_uid));
    if (!S_ISLNK(about.st_mode) && is_others_writable(about))
      problem(path,
              "expected not writable by group or others, got mode " + mode_text(about.st_mode));
  }

  Status check_own_folder(int root_fd);
  Status walk(int directory_fd, const std::string& prefix, int depth);
  Result<std::vector<std::string>> names_in(int directory_fd, const std::string& prefix);
  Status check(int directory_fd, const std::string& name, const std::string& path, int depth);
  bool check_type_and_mode(const EntryView& entry, const struct stat& about);
  Status check_symlink(int directory_fd, const std::string& name, const EntryView& entry);
  Status check_directory(int directory_fd, const std::string& name, const EntryView& entry,
                         int depth);
  Status check_contents();
  void report_missing();

  const release::EntryTable& table_;
  base::Interrupt* interrupt_;
  std::vector<bool> seen_;
  std::optional<ContentCheck> contents_;
  TreeReport report_;
};

Status TreeCheck::check_own_folder(int root_fd) {
  const auto folder = base::open_beneath(root_fd, release::kReservedFolder, O_RDONLY | O_DIRECTORY);
  struct stat about{};
  if (!folder || ::fstat(folder->get(), &about) != 0) {
    problem(release::kReservedFolder, "missing");
    return base::ok();
  }
  check_owner(release::kReservedFolder, about);
  UPD_ASSIGN(const std::vector<std::string> names,
             names_in(folder->get(), release::kReservedFolder));
  for (const std::string& name : names)
    if (name != kEnvelopeName && name != kManifestName)
      problem(std::string(release::kReservedFolder) + "/" + name, "extra");
  for (const char* name : {kEnvelopeName, kManifestName}) {
    const std::string path = std::string(release::kReservedFolder) + "/" + name;
    if (::fstatat(folder->get(), name, &about, AT_SYMLINK_NOFOLLOW) != 0) {
      problem(path, "missing");
      continue;
    }
    if (!S_ISREG(about.st_mode))
      problem(path, "expected a file, got a " + std::string(type_on_disk(about.st_mode)));
    check_owner(path, about);
  }
  return base::ok();
}

// Sorted, so that the report doesn't depend on the file system. More names than a release can have
// are not collected: the surplus is reported as one.
Result<std::vector<std::string>> TreeCheck::names_in(int directory_fd, const std::string& prefix) {
  UniqueFd own(::openat(directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  DirectoryListing listing(own ? ::fdopendir(own.get()) : nullptr);
  if (!listing) return base::system_error(errno, cannot("list", prefix));
  static_cast<void>(own.release());  // closedir closes it
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(listing.get())) {
    const std::string_view name = entry->d_name;
    if (name == "." || name == "..") continue;
    if (names.size() == release::kMaxEntries) {
      problem(prefix, "more names than any release has");
      break;
    }
    names.emplace_back(name);
    errno = 0;
  }
  if (errno != 0) return base::system_error(errno, cannot("list", prefix));
  std::sort(names.begin(), names.end());
  return names;
}

Status TreeCheck::walk(int directory_fd, const std::string& prefix, int depth) {
  if (depth > base::kMaxTreeDepth)
    return Error(Code::damaged, "the tree is deeper than any release at '" + prefix + "'");
  UPD_ASSIGN(const std::vector<std::string> names, names_in(directory_fd, prefix));
  const std::string below = prefix.empty() ? "" : prefix + "/";
  for (const std::string& name : names) {
    if (full()) return base::ok();
    if (depth == 0 && name == release::kReservedFolder) continue;
    UPD_TRY(check(directory_fd, name, below + name, depth));
  }
  return base::ok();
}

Status TreeCheck::check(int directory_fd, const std::string& name, const std::string& path,
                        int depth) {
  UPD_TRY(stop_if_asked());
  const std::optional<std::size_t> index = table_.find(path);
  if (!index) {
    problem(path, "extra");
    return base::ok();
  }
  seen_[*index] = true;
  const EntryView entry = table_.at(*index);
  struct stat about{};
  if (::fstatat(directory_fd, name.c_str(), &about, AT_SYMLINK_NOFOLLOW) != 0)
    return base::system_error(errno, cannot("look at", path));
  ++report_.entries;
  check_owner(path, about);
  if (!check_type_and_mode(entry, about)) return base::ok();
  switch (entry.type) {
    case EntryType::directory:
      return check_directory(directory_fd, name, entry, depth);
    case EntryType::symlink:
      return check_symlink(directory_fd, name, entry);
    case EntryType::file:
    case EntryType::hardlink:
      break;
  }
  contents_->add(*index, static_cast<std::uint64_t>(about.st_size));
  return base::ok();
}

// False when the type is wrong: then there is nothing more to compare.
bool TreeCheck::check_type_and_mode(const EntryView& entry, const struct stat& about) {
  if (type_on_disk(about.st_mode) != type_expected(entry.type)) {
    problem(entry.path, "expected a " + std::string(type_expected(entry.type)) + ", got a " +
                            std::string(type_on_disk(about.st_mode)));
    return false;
  }
  const mode_t wanted = installed_mode(entry.type, entry.mode);
  if (entry.type != EntryType::symlink && (about.st_mode & 07777U) != wanted)
    problem(entry.path, "expected mode " + mode_text(wanted) + ", got " + mode_text(about.st_mode));
  return true;
}

Status TreeCheck::check_directory(int directory_fd, const std::string& name, const EntryView& entry,
                                  int depth) {
  auto child = base::open_beneath(directory_fd, name, O_RDONLY | O_DIRECTORY);
  if (!child) return std::move(child).error();
  return walk(child->get(), std::string(entry.path), depth + 1);
}

Status TreeCheck::check_symlink(int directory_fd, const std::string& name, const EntryView& entry) {
  UPD_ASSIGN(const std::optional<std::string> target, base::read_link_at(directory_fd, name));
  if (target != entry.link_target)
    problem(entry.path, "expected a link to '" + std::string(entry.link_target) + "', got '" +
                            target.value_or("") + "'");
  return base::ok();
}

Status TreeCheck::check_contents() {
  UPD_ASSIGN(const std::vector<ContentProblem> problems,
             contents_->run(kMaxProblems - std::min(kMaxProblems, report_.problems.size())));
  for (const ContentProblem& one : problems) problem(table_.at(one.index).path, one.what);
  report_.bytes = contents_->bytes_checked();
  return base::ok();
}

void TreeCheck::report_missing() {
  for (std::size_t i = 0; i < seen_.size() && !full(); ++i)
    if (!seen_[i]) problem(table_.at(i).path, "missing");
}

}  // namespace

Result<TreeReport> verify_tree(const std::string& path, const release::Manifest& manifest,
                               base::Interrupt* interrupt) {
  TreeCheck check(manifest, interrupt);
  UPD_TRY_CONTEXT(check.run(path), "checking '" + path + "'");
  return check.take();
}

}  // namespace updagent::store
