// What pack reads: a directory tree or a tarball, brought into one form. Both end in entries as the
// manifest will list them: sorted, modes normalised, parents present, nothing that can't be in a
// release.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/byte_source.hpp"
#include "agent/base/digest.hpp"
#include "agent/base/error.hpp"
#include "agent/release/manifest.hpp"

namespace updagent::release {

// 64 bytes: there may be 262,144 of them. The input owns the texts.
struct InputEntry {
  std::string_view path;
  std::string_view link_target;  // symlink: as in readlink(2); hardlink: path of an earlier file
  std::uint64_t size = 0;        // of a file
  std::int64_t mtime = 0;
  std::uint32_t inode = 0;    // files with the same number (not 0) are one file under several names
  std::uint32_t content = 0;  // the input's own number for a file's bytes
  std::uint32_t path_at = 0;  // in the input's texts
  std::uint16_t mode = 0;
  EntryType type = EntryType::file;

  void set_path(TextArena& texts, std::string_view text) {
    path_at = texts.add(text);
    path = texts.at(path_at, text.size());
  }
};
using InputEntries = std::deque<InputEntry>;  // grows, and shrinks from its front, without a copy

// Collects what was left out or changed: one line a kind, however many paths it is about.
class PackNotes {
 public:
  void add(std::string text) { notes_.push_back({std::move(text), "", 0}); }
  void add(std::string_view kind, std::string_view path);
  std::vector<std::string> lines() const;

 private:
  struct Note {
    std::string kind;
    std::string first;
    std::size_t count;
  };
  std::vector<Note> notes_;
};

// Files that are known by what they are, not by name.
struct FileId {
  dev_t device = 0;
  ino_t inode = 0;
  bool operator==(const FileId&) const = default;
};
std::optional<FileId> file_id(const std::string& path);

struct InputRules {
  std::optional<FileId> output;  // lies in the packed directory: left out
  std::vector<FileId> secrets;   // refused there
};

class PackInput {
 public:
  virtual ~PackInput() = default;
  // Everything, in the order of the manifest. Once.
  virtual base::Result<InputEntries> gather(PackNotes& notes) = 0;
  // The entry's texts are not needed any more.
  void drop(const InputEntry& entry) { texts_.drop(entry.path_at); }
  // A file's bytes from the start. An error when it is not what gather() saw.
  virtual base::Result<std::unique_ptr<base::ByteSource>> open(const InputEntry& entry) = 0;
  // What gather() has hashed already.
  virtual std::optional<base::Digest> digest(const InputEntry&) const { return std::nullopt; }
  // The directory where git may be asked, "" for a tarball.
  virtual std::string directory() const { return ""; }
  // The commit that a tarball of `git archive` (so GitHub's) names, "" otherwise.
  virtual std::string commit() const { return ""; }

 protected:
  TextArena texts_;    // paths
  TextArena targets_;  // of links, for good
};

// Hands a file's bytes to `sink`, in pieces as `buffer` is large: exactly entry.size, or an error.
base::Status read_content(PackInput& input, const InputEntry& entry, std::span<std::uint8_t> buffer,
                          const std::function<base::Status(std::span<const std::uint8_t>)>& sink);

// Code::usage when `path` is neither.
base::Result<std::unique_ptr<PackInput>> open_pack_input(const std::string& path, InputRules rules);
base::Result<std::unique_ptr<PackInput>> open_tree_input(const std::string& path, InputRules rules);
base::Result<std::unique_ptr<PackInput>> open_tarball_input(const std::string& path);

inline constexpr std::string_view kCapabilitiesNote =
    "left out file capabilities (what a node grants is its own configuration)";

// --- what both kinds share --------------------------------------------------------------------
// Files are 0644, or 0755 when their owner may execute them; directories 0755, links 0777.
std::uint16_t normal_mode(EntryType type, mode_t mode);
// Set-id bits of a file are refused; those of a directory are dropped: they grant nothing here.
base::Status check_mode(std::string_view path, EntryType type, mode_t mode, PackNotes& notes);
// Within what a tar header can say.
std::int64_t normal_mtime(std::int64_t mtime, std::string_view path, PackNotes& notes);
base::Status check_depth(std::string_view path);
base::Status check_count(std::size_t entries);
base::Error special_file(std::string_view path, mode_t mode);
base::Error changed_while_packed(std::string_view path);

// Sorts, adds the directories that are only implied, makes hard links of names that share an inode,
// refuses what is reserved. `texts` are those of the paths.
base::Status finish_entries(InputEntries& entries, TextArena& texts);

}  // namespace updagent::release
