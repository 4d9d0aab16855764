// A directory as the input of pack: walked without following any link.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>

#include "agent/base/files.hpp"
#include "agent/release/describe.hpp"
#include "agent/release/pack_files.hpp"
#include "agent/release/pack_input.hpp"
#include "agent/release/pack_keys.hpp"

namespace updagent::release {
namespace {

using base::Status;
using base::UniqueFd;

constexpr std::string_view kGitFolder = ".git";  // a file of that name in submodules and worktrees

struct CloseDir {
  void operator()(DIR* listing) const { ::closedir(listing); }
};

base::Result<std::vector<std::string>> names_in(int directory_fd, const std::string& path) {
  UniqueFd own(::openat(directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const std::unique_ptr<DIR, CloseDir> listing(own ? ::fdopendir(own.get()) : nullptr);
  if (!listing) return base::system_error(errno, "cannot list " + in_quotes(path));
  static_cast<void>(own.release());  // closedir closes it
  std::vector<std::string> names;
  for (;;) {
    errno = 0;
    const dirent* found = ::readdir(listing.get());
    if (found == nullptr) break;
    const std::string_view name = found->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
    UPD_TRY(check_count(names.size()));
  }
  if (errno != 0) return base::system_error(errno, "cannot list " + in_quotes(path));
  std::sort(names.begin(), names.end());
  return names;
}

class TreeInput final : public PackInput {
 public:
  TreeInput(std::string root_path, UniqueFd root, InputRules rules)
      : root_path_(std::move(root_path)), root_(std::move(root)), rules_(std::move(rules)) {}

  base::Result<InputEntries> gather(PackNotes& notes) override {
    notes_ = &notes;
    UPD_TRY(walk(root_.get(), ""));
    inodes_.clear();
    UPD_TRY(finish_entries(entries_, texts_));
    return std::move(entries_);
  }

  base::Result<std::unique_ptr<base::ByteSource>> open(const InputEntry& entry) override {
    // O_NONBLOCK: a fifo that took the file's place must not hold us
    std::string path(entry.path);
    UPD_ASSIGN(UniqueFd fd, base::open_beneath(root_.get(), path, O_RDONLY | O_NONBLOCK));
    struct stat about{};
    if (::fstat(fd.get(), &about) != 0)
      return base::system_error(errno, "cannot stat " + in_quotes(entry.path));
    PackNotes unused;
    if (!S_ISREG(about.st_mode) || static_cast<std::uint64_t>(about.st_size) != entry.size ||
        normal_mtime(about.st_mtim.tv_sec, entry.path, unused) != entry.mtime)
      return changed_while_packed(entry.path);
    return std::unique_ptr<base::ByteSource>(
        std::make_unique<FileBytes>(std::move(fd), std::move(path)));
  }

  std::string directory() const override { return root_path_; }

 private:
  // Recursion is bounded by check_depth(); one descriptor a level.
  Status walk(int directory_fd, const std::string& prefix) {
    UPD_ASSIGN(const auto names, names_in(directory_fd, prefix.empty() ? root_path_ : prefix));
    for (const std::string& name : names) {
      std::string path = prefix;
      if (!path.empty()) path += '/';
      path += name;
      if (name == kGitFolder) {
        notes_->add("left out what git keeps", path);
        continue;
      }
      UPD_TRY(check_depth(path));
      UPD_TRY(take(directory_fd, name, path));
    }
    return base::ok();
  }

  Status take(int directory_fd, const std::string& name, const std::string& path) {
    struct stat about{};
    if (::fstatat(directory_fd, name.c_str(), &about, AT_SYMLINK_NOFOLLOW) != 0)
      return errno == ENOENT ? changed_while_packed(path)
                             : base::system_error(errno, "cannot stat " + in_quotes(path));
    if (rules_.output == FileId{about.st_dev, about.st_ino}) {
      notes_->add("left out the output itself", path);
      return base::ok();
    }
    InputEntry entry;
    entry.set_path(texts_, path);
    entry.mtime = normal_mtime(about.st_mtim.tv_sec, path, *notes_);
    if (S_ISREG(about.st_mode)) return take_file(directory_fd, name, about, entry);
    if (S_ISDIR(about.st_mode)) return take_directory(directory_fd, name, about, entry);
    if (S_ISLNK(about.st_mode)) return take_symlink(directory_fd, name, entry);
    return special_file(path, about.st_mode);
  }

  Status take_file(int directory_fd, const std::string& name, const struct stat& about,
                   InputEntry entry) {
    UPD_TRY(check_mode(entry.path, EntryType::file, about.st_mode, *notes_));
    const FileId id{about.st_dev, about.st_ino};
    if (std::find(rules_.secrets.begin(), rules_.secrets.end(), id) != rules_.secrets.end())
      return is_the_private_key(entry.path);
    entry.type = EntryType::file;
    entry.mode = normal_mode(entry.type, about.st_mode);
    entry.size = static_cast<std::uint64_t>(about.st_size);
    if (about.st_nlink > 1)
      entry.inode =
          inodes_.try_emplace({id.device, id.inode}, static_cast<std::uint32_t>(inodes_.size() + 1))
              .first->second;
    if (entry.mode == normal_mode(entry.type, S_IXUSR) && has_capabilities(directory_fd, name))
      notes_->add(kCapabilitiesNote, entry.path);
    return add(entry);
  }

  Status take_directory(int directory_fd, const std::string& name, const struct stat& about,
                        InputEntry entry) {
    UPD_TRY(check_mode(entry.path, EntryType::directory, about.st_mode, *notes_));
    entry.type = EntryType::directory;
    entry.mode = normal_mode(entry.type, about.st_mode);
    const std::string path(entry.path);
    UPD_TRY(add(entry));
    const UniqueFd below(
        ::openat(directory_fd, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!below) return base::system_error(errno, "cannot open " + in_quotes(path));
    return walk(below.get(), path);
  }

  Status take_symlink(int directory_fd, const std::string& name, InputEntry entry) {
    UPD_ASSIGN(const auto target, base::read_link_at(directory_fd, name));
    if (!target) return changed_while_packed(entry.path);
    entry.type = EntryType::symlink;
    entry.mode = normal_mode(entry.type, 0);
    entry.link_target = targets_.keep(*target);
    return add(entry);
  }

  // Only a note hangs on it, so what can't be opened is not asked.
  static bool has_capabilities(int directory_fd, const std::string& name) {
    const UniqueFd file(
        ::openat(directory_fd, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    return file && ::fgetxattr(file.get(), "security.capability", nullptr, 0) > 0;
  }

  Status add(const InputEntry& entry) {
    entries_.push_back(entry);
    return check_count(entries_.size());
  }

  std::string root_path_;
  UniqueFd root_;
  InputRules rules_;
  PackNotes* notes_ = nullptr;
  std::map<std::pair<dev_t, ino_t>, std::uint32_t> inodes_;  // of files with several names
  InputEntries entries_;
};

}  // namespace

base::Result<std::unique_ptr<PackInput>> open_tree_input(const std::string& path,
                                                         InputRules rules) {
  UPD_ASSIGN(UniqueFd root, base::open_directory(path));
  return std::unique_ptr<PackInput>(
      std::make_unique<TreeInput>(path, std::move(root), std::move(rules)));
}

}  // namespace updagent::release
