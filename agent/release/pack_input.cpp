#include "agent/release/pack_input.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <map>

#include "agent/base/text.hpp"
#include "agent/release/describe.hpp"

namespace updagent::release {

using base::Code;
using base::Error;
using base::Status;

namespace {

bool is_reserved(std::string_view path) {
  const std::string_view reserved = kReservedFolder;
  return path.starts_with(reserved) &&
         (path.size() == reserved.size() || path[reserved.size()] == '/');
}

bool by_path(const InputEntry& a, const InputEntry& b) {
  return a.path < b.path;
}

// Directories that entries lie in without being listed, each with the newest time of what it holds:
// the value depends on the content, not on when it was packed.
base::Result<std::map<std::string, std::int64_t, std::less<>>> missing_parents(
    const InputEntries& sorted) {
  const auto is_listed = [&](std::string_view path) {
    const auto found = std::lower_bound(
        sorted.begin(), sorted.end(), path,
        [](const InputEntry& entry, std::string_view wanted) { return entry.path < wanted; });
    return found != sorted.end() && found->path == path;
  };
  std::map<std::string, std::int64_t, std::less<>> missing;
  for (const InputEntry& entry : sorted) {
    std::string_view path = entry.path;
    for (std::size_t slash = path.rfind('/'); slash != std::string_view::npos;
         slash = path.rfind('/')) {
      path = path.substr(0, slash);
      if (is_listed(path)) continue;
      const auto [at, is_new] = missing.try_emplace(std::string(path), entry.mtime);
      at->second = std::max(at->second, entry.mtime);
      if (is_new) UPD_TRY(check_count(sorted.size() + missing.size()));
    }
  }
  return missing;
}

// The first name in the order is the file, the others link to it.
void link_shared_inodes(InputEntries& sorted, TextArena& texts) {
  std::uint32_t highest = 0;
  for (const InputEntry& entry : sorted) highest = std::max(highest, entry.inode);
  constexpr std::uint32_t kNone = ~0U;
  std::vector<std::uint32_t> first_of(std::size_t{highest} + 1, kNone);
  for (std::uint32_t i = 0; i < sorted.size(); ++i) {
    InputEntry& entry = sorted[i];
    if (entry.type != EntryType::file || entry.inode == 0) continue;
    if (first_of[entry.inode] == kNone) {
      first_of[entry.inode] = i;
      continue;
    }
    const InputEntry& file = sorted[first_of[entry.inode]];
    entry.type = EntryType::hardlink;
    entry.link_target = file.path;
    texts.hold(file.path_at);  // for good
    entry.mode = file.mode;
    entry.mtime = file.mtime;
    entry.size = 0;
  }
}

}  // namespace

void PackNotes::add(std::string_view kind, std::string_view path) {
  const auto same = std::find_if(notes_.begin(), notes_.end(),
                                 [&](const Note& note) { return note.kind == kind; });
  if (same != notes_.end()) {
    ++same->count;
    return;
  }
  notes_.push_back({std::string(kind), std::string(path), 1});
}

std::vector<std::string> PackNotes::lines() const {
  std::vector<std::string> lines;
  for (const Note& note : notes_) {
    std::string line = note.kind;
    if (note.count > 0) line += ": " + in_quotes(base::printable(note.first));
    if (note.count > 1) line += " and " + std::to_string(note.count - 1) + " more";
    lines.push_back(std::move(line));
  }
  return lines;
}

std::optional<FileId> file_id(const std::string& path) {
  struct stat about{};
  if (::stat(path.c_str(), &about) != 0) return std::nullopt;
  return FileId{about.st_dev, about.st_ino};
}

Status read_content(PackInput& input, const InputEntry& entry, std::span<std::uint8_t> buffer,
                    const std::function<Status(std::span<const std::uint8_t>)>& sink) {
  UPD_ASSIGN(const auto source, input.open(entry));
  std::uint64_t left = entry.size;
  for (;;) {
    UPD_ASSIGN(const std::size_t count, source->read(buffer));
    if (count > left || (count == 0 && left != 0)) return changed_while_packed(entry.path);
    if (count == 0) return base::ok();
    left -= count;
    UPD_TRY(sink(buffer.first(count)));
  }
}

base::Result<std::unique_ptr<PackInput>> open_pack_input(const std::string& path,
                                                         InputRules rules) {
  struct stat about{};
  if (::stat(path.c_str(), &about) != 0)
    return Error(Code::usage, "cannot read " + in_quotes(path))
        .expected("a directory or a tarball")
        .got(base::system_error(errno, path).message());
  if (S_ISDIR(about.st_mode)) return open_tree_input(path, std::move(rules));
  if (!S_ISREG(about.st_mode))
    return Error(Code::usage, "cannot pack " + in_quotes(path))
        .expected("a directory or a tarball")
        .got("something else");
  if (rules.output == FileId{about.st_dev, about.st_ino})
    return Error(Code::usage, "the output would replace the input " + in_quotes(path))
        .hint("choose another name for the output");
  return open_tarball_input(path);
}

std::uint16_t normal_mode(EntryType type, mode_t mode) {
  switch (type) {
    case EntryType::directory:
      return 0755;
    case EntryType::symlink:
      return 0777;
    case EntryType::file:
    case EntryType::hardlink:
      break;
  }
  return (mode & S_IXUSR) != 0 ? 0755 : 0644;
}

Status check_mode(std::string_view path, EntryType type, mode_t mode, PackNotes& notes) {
  const bool set_id = (mode & (S_ISUID | S_ISGID)) != 0;
  if (!set_id || type == EntryType::symlink) return base::ok();
  if (type == EntryType::directory) {
    notes.add("left out the set-id bits of directories", path);
    return base::ok();
  }
  const bool user = (mode & S_ISUID) != 0;
  return Error(Code::mode_unsafe, in_quotes(path) + (user ? " is setuid" : " is setgid"))
      .expected("a file without set-id bits")
      .got(user ? "setuid" : "setgid")
      .hint("take the bit off (chmod ug-s) and let the node's configuration grant what it needs");
}

std::int64_t normal_mtime(std::int64_t mtime, std::string_view path, PackNotes& notes) {
  const std::int64_t within = std::clamp(mtime, std::int64_t{0}, kMaxTime);
  if (within != mtime) notes.add("moved times outside of 1970 to 2242 to that limit", path);
  return within;
}

Status check_depth(std::string_view path) {
  const auto components = static_cast<std::size_t>(std::count(path.begin(), path.end(), '/')) + 1;
  if (components <= kMaxPathDepth) return base::ok();
  return Error(Code::path_unsafe, "the path " + in_quotes(path) + " is too deep")
      .expected("at most " + std::to_string(kMaxPathDepth) + " components")
      .got(std::to_string(components));
}

Status check_count(std::size_t entries) {
  if (entries <= kMaxEntries) return base::ok();
  return Error(Code::too_large, "too many entries for one release")
      .expected("at most " + std::to_string(kMaxEntries))
      .got("more")
      .hint("pack large asset trees into one file, or split the release");
}

Error special_file(std::string_view path, mode_t mode) {
  const char* kind = S_ISFIFO(mode)   ? "a fifo"
                     : S_ISSOCK(mode) ? "a socket"
                     : S_ISCHR(mode)  ? "a character device"
                     : S_ISBLK(mode)  ? "a block device"
                                      : "a special file";
  return Error(Code::header_unsupported, in_quotes(path) + " is " + kind)
      .expected("files, directories and links")
      .got(kind)
      .hint("remove it from the input; a service makes such files when it starts");
}

Error changed_while_packed(std::string_view path) {
  return Error(Code::io_error, in_quotes(path) + " changed while it was being packed")
      .hint("stop what writes there and pack again");
}

Status finish_entries(InputEntries& entries, TextArena& texts) {
  std::sort(entries.begin(), entries.end(), by_path);
  for (const InputEntry& entry : entries)
    if (is_reserved(entry.path))
      return Error(Code::path_unsafe, "the input already holds " + in_quotes(kReservedFolder))
          .expected("a tree that was not packed yet")
          .got(in_quotes(entry.path))
          .hint("pack the original tree; to add a signature to an artifact use 'updagent sign'");
  UPD_ASSIGN(const auto missing, missing_parents(entries));
  for (const auto& [path, mtime] : missing) {
    InputEntry& made = entries.emplace_back();
    made.set_path(texts, path);
    made.type = EntryType::directory;
    made.mode = normal_mode(EntryType::directory, 0);
    made.mtime = mtime;
  }
  if (!missing.empty()) std::sort(entries.begin(), entries.end(), by_path);
  link_shared_inodes(entries, texts);
  return base::ok();
}

}  // namespace updagent::release
