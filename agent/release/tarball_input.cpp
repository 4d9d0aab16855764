// A tarball as the input of pack, read by libarchive. Contents go to a spool, so that the entries
// can be sorted; hard links and names that come twice are resolved as stock tar would unpack them.
#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <locale.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "agent/base/files.hpp"
#include "agent/base/text.hpp"
#include "agent/release/describe.hpp"
#include "agent/release/entry_rules.hpp"
#include "agent/release/pack_files.hpp"
#include "agent/release/pack_input.hpp"
#include "agent/release/tarball_commit.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Error;
using base::Status;
using base::UniqueFd;

constexpr std::size_t kReadBytes = 128 * 1024;

// libarchive converts pax names to the locale's character set, and in a UTF-8 one also normalises
// them, so that a decomposed name would change. In the "C" locale it hands the bytes on as they
// are.
class PlainBytesLocale {
 public:
  PlainBytesLocale() : plain_(::newlocale(LC_ALL_MASK, "C", nullptr)) {
    if (plain_ != nullptr) before_ = ::uselocale(plain_);
  }
  ~PlainBytesLocale() {
    if (plain_ == nullptr) return;
    ::uselocale(before_);
    ::freelocale(plain_);
  }
  PlainBytesLocale(const PlainBytesLocale&) = delete;
  PlainBytesLocale& operator=(const PlainBytesLocale&) = delete;

 private:
  locale_t plain_;
  locale_t before_ = nullptr;
};

struct FreeArchive {
  void operator()(archive* handle) const { ::archive_read_free(handle); }
};

struct Content {
  std::uint64_t from;
  std::uint64_t size;
  base::Digest sha256;
};

// "./a//b/" to "a/b"; "" for the root itself.
base::Result<std::string> clean_path(std::string_view raw) {
  if (raw.starts_with('/'))
    return Error(Code::path_unsafe, in_quotes(raw) + " is absolute")
        .expected("relative paths")
        .got("a leading '/'")
        .hint("make the tarball with 'tar -C FOLDER -czf FILE .'");
  std::string path;
  for (std::string_view rest = raw; !rest.empty();) {
    const std::string_view component = take_component(rest);
    if (component.empty() || component == ".") continue;
    if (component == "..")
      return Error(Code::path_unsafe, in_quotes(raw) + " leaves the tarball")
          .expected("paths without '..'")
          .got("'..'");
    if (!path.empty()) path += '/';
    path += component;
  }
  UPD_TRY(check_depth(path));
  return path;
}

// The one top folder that everything lies in; "" if there is none.
std::string common_top(const InputEntries& entries) {
  if (entries.empty()) return "";
  const std::string_view first = entries.front().path;
  const std::string top(first.substr(0, first.find('/')));
  if (top == kReservedFolder) return "";  // an artifact, which is refused later: keep its name
  const std::string inside = top + "/";
  bool holds_something = false;
  for (const InputEntry& entry : entries) {
    const bool below = entry.path.starts_with(inside);
    const bool itself = entry.path == top && entry.type == EntryType::directory;
    if (!below && !itself) return "";
    holds_something |= below;
  }
  return holds_something ? top : "";
}

class TarballInput final : public PackInput {
 public:
  TarballInput(std::string path, UniqueFd file, Spool spool)
      : path_(std::move(path)), file_(std::move(file)), spool_(std::move(spool)) {}

  base::Result<InputEntries> gather(PackNotes& notes) override {
    notes_ = &notes;
    const PlainBytesLocale plain;
    UPD_TRY(read_archive());
    strip_top();
    UPD_TRY(settle_names());
    UPD_TRY(finish_entries(entries_, texts_));
    return std::move(entries_);
  }

  base::Result<std::unique_ptr<base::ByteSource>> open(const InputEntry& entry) override {
    const Content& content = contents_.at(entry.content);
    return std::unique_ptr<base::ByteSource>(
        std::make_unique<Spool::Part>(spool_, content.from, content.size));
  }

  std::optional<base::Digest> digest(const InputEntry& entry) const override {
    return contents_.at(entry.content).sha256;
  }

  std::string commit() const override { return commit_; }

 private:
  Error damaged() const {
    const char* why = ::archive_error_string(archive_.get());
    return Error(Code::artifact_damaged, "cannot read the tarball " + in_quotes(path_))
        .expected("a tarball, plain or compressed with gzip or zstd")
        .got(why == nullptr ? "a damaged file" : why)
        .hint("what stock tar can unpack can be packed as a directory");
  }

  Status read_archive() {
    commit_ = commit_of_tarball(file_.get());
    if (::lseek(file_.get(), 0, SEEK_SET) != 0)
      return base::system_error(errno, "cannot rewind the tarball");
    archive_.reset(::archive_read_new());
    if (!archive_) return Error(Code::internal, "libarchive can't start");
    ::archive_read_support_format_tar(archive_.get());
    ::archive_read_support_filter_gzip(archive_.get());
    ::archive_read_support_filter_zstd(archive_.get());
    if (::archive_read_open_fd(archive_.get(), file_.get(), kReadBytes) != ARCHIVE_OK)
      return damaged();
    for (;;) {
      archive_entry* found = nullptr;
      const int result = ::archive_read_next_header(archive_.get(), &found);
      if (result == ARCHIVE_EOF) break;
      // a warning is about what we don't take: owners, names in another character set, attributes
      if (result != ARCHIVE_OK && result != ARCHIVE_WARN) return damaged();
      UPD_TRY(take(found));
    }
    archive_.reset();
    return base::ok();
  }

  Status take(archive_entry* found) {
    const char* raw = ::archive_entry_pathname(found);
    if (raw == nullptr) return damaged();
    UPD_ASSIGN(const std::string path, clean_path(raw));
    if (path.empty()) return base::ok();  // "./": the root is not an entry
    InputEntry entry;
    entry.set_path(texts_, path);
    entry.mtime = normal_mtime(::archive_entry_mtime(found), entry.path, *notes_);
    UPD_TRY(take_kind(found, entry));
    entry.mode = normal_mode(entry.type, ::archive_entry_perm(found));
    UPD_TRY(check_mode(entry.path, entry.type, ::archive_entry_perm(found), *notes_));
    entries_.push_back(entry);
    return check_count(entries_.size());
  }

  Status take_kind(archive_entry* found, InputEntry& entry) {
    if (const char* target = ::archive_entry_hardlink(found); target != nullptr) {
      UPD_ASSIGN(const std::string cleaned, clean_path(target));
      entry.link_target = targets_.keep(cleaned);
      entry.type = EntryType::hardlink;
      return base::ok();
    }
    const mode_t kind = ::archive_entry_filetype(found);
    if (kind == AE_IFDIR) {
      entry.type = EntryType::directory;
      return base::ok();
    }
    if (kind == AE_IFLNK) {
      const char* target = ::archive_entry_symlink(found);
      entry.type = EntryType::symlink;
      entry.link_target = targets_.keep(target == nullptr ? "" : target);
      return base::ok();
    }
    if (kind != AE_IFREG) return special_file(entry.path, kind);
    entry.type = EntryType::file;
    note_capabilities(found, entry.path);
    return spool_content(entry);
  }

  void note_capabilities(archive_entry* found, std::string_view path) {
    const char* name = nullptr;
    const void* value = nullptr;
    std::size_t size = 0;
    ::archive_entry_xattr_reset(found);
    while (::archive_entry_xattr_next(found, &name, &value, &size) == ARCHIVE_OK)
      if (name != nullptr && std::strcmp(name, "security.capability") == 0)
        notes_->add(kCapabilitiesNote, path);
  }

  Status spool_content(InputEntry& entry) {
    Content content{spool_.size(), 0, {}};
    std::vector<std::uint8_t> buffer(kReadBytes);
    for (;;) {
      const la_ssize_t count = ::archive_read_data(archive_.get(), buffer.data(), buffer.size());
      if (count == 0) break;
      if (count < 0) return damaged();
      const auto bytes = std::span(buffer).first(static_cast<std::size_t>(count));
      sha256_.update(bytes);
      UPD_TRY(spool_.append(bytes));
    }
    content.size = spool_.size() - content.from;
    content.sha256 = sha256_.finish();
    entry.size = content.size;
    entry.content = static_cast<std::uint32_t>(contents_.size());
    entry.inode = entry.content + 1;  // a hard link takes both over
    contents_.push_back(content);
    return base::ok();
  }

  void strip_top() {
    const std::string top = common_top(entries_);
    if (top.empty()) return;
    notes_->add("stripped the common folder", top);
    std::erase_if(entries_, [&](const InputEntry& entry) { return entry.path == top; });
    for (InputEntry& entry : entries_) {
      entry.path.remove_prefix(top.size() + 1);
      // a link to anything else has no target in the tarball: settle_names() says so
      if (entry.type == EntryType::hardlink && entry.link_target.starts_with(top + '/'))
        entry.link_target.remove_prefix(top.size() + 1);
    }
  }

  // Of a name that comes twice the last stays. A hard link is to what had the name when the link
  // was made, so entries that are replaced later still count as targets.
  Status settle_names() {
    std::vector<std::uint32_t> order(entries_.size());
    for (std::uint32_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
      const int compared = entries_[a].path.compare(entries_[b].path);
      return compared < 0 || (compared == 0 && a < b);
    });
    // in the tarball's order: a target is settled before its links
    for (std::uint32_t i = 0; i < entries_.size(); ++i)
      if (entries_[i].type == EntryType::hardlink) UPD_TRY(settle_link(i, order));
    std::vector<bool> replaced(entries_.size(), false);
    for (std::size_t i = 0; i + 1 < order.size(); ++i) {
      const InputEntry& entry = entries_[order[i]];
      if (entries_[order[i + 1]].path != entry.path) continue;
      notes_->add("took the last of the entries with the same name", entry.path);
      replaced[order[i]] = true;
    }
    std::size_t kept = 0;
    for (std::size_t i = 0; i < entries_.size(); ++i)
      if (!replaced[i]) entries_[kept++] = entries_[i];
    entries_.resize(kept);
    return base::ok();
  }

  // The newest entry of the target's name before `link`.
  const InputEntry* target_of(std::uint32_t link, const std::vector<std::uint32_t>& order) const {
    const std::string_view wanted = entries_[link].link_target;
    const auto after = std::partition_point(order.begin(), order.end(), [&](std::uint32_t i) {
      const int compared = entries_[i].path.compare(wanted);
      return compared < 0 || (compared == 0 && i < link);
    });
    if (after == order.begin()) return nullptr;
    const InputEntry& found = entries_[*(after - 1)];
    return found.path == wanted ? &found : nullptr;
  }

  Status settle_link(std::uint32_t link, const std::vector<std::uint32_t>& order) {
    InputEntry& entry = entries_[link];
    const InputEntry* target = target_of(link, order);
    if (target == nullptr || target->type == EntryType::directory)
      return Error(Code::link_unsafe,
                   "the hard link " + in_quotes(entry.path) + " has no file to share")
          .expected(in_quotes(entry.link_target) + " as an earlier file of the tarball")
          .got(target == nullptr ? "no such entry" : "a directory")
          .hint("put both names into the tarball, or make it with 'tar --hard-dereference'");
    const InputEntry link_itself = entry;
    entry = *target;  // bytes and inode of a file; a link to a symlink is the same symlink again
    entry.path = link_itself.path;
    entry.path_at = link_itself.path_at;
    return base::ok();
  }

  std::string path_;
  UniqueFd file_;
  Spool spool_;
  std::unique_ptr<archive, FreeArchive> archive_;
  base::Sha256 sha256_;
  PackNotes* notes_ = nullptr;
  std::string commit_;
  std::deque<Content> contents_;
  InputEntries entries_;
};

}  // namespace

base::Result<std::unique_ptr<PackInput>> open_tarball_input(const std::string& path) {
  UPD_ASSIGN(UniqueFd file, base::open_path(path, O_RDONLY));
  UPD_ASSIGN(Spool spool, Spool::create());
  return std::unique_ptr<PackInput>(
      std::make_unique<TarballInput>(path, std::move(file), std::move(spool)));
}

}  // namespace updagent::release
