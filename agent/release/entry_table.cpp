#include <algorithm>
#include <string>

#include "agent/base/text.hpp"
#include "agent/release/describe.hpp"
#include "agent/release/entry_rules.hpp"
#include "agent/release/manifest.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Error;
using base::ok;
using base::Status;

Status check_room(const EntryTable& table, const EntryView& entry) {
  if (table.size() >= kMaxEntries)
    return Error(Code::manifest_too_large, "too many entries")
        .expected("at most " + std::to_string(kMaxEntries))
        .got("more, the next is " + in_quotes(entry.path));
  if (entry.size > kMaxTotalBytes - table.total_file_bytes())
    return Error(Code::manifest_too_large, "the files are too large together")
        .expected("at most 2^53 bytes")
        .got("more with " + in_quotes(entry.path) + " of " + std::to_string(entry.size) + " bytes");
  if (entry.path.size() + entry.link_target.size() > kMaxNameBytes - table.name_bytes())
    return Error(Code::manifest_too_large, "the paths and link targets are too long together")
        .expected("at most " + std::to_string(kMaxNameBytes) + " bytes")
        .got("more with " + in_quotes(entry.path));
  return ok();
}

Status check_order(const EntryTable& table, std::string_view path) {
  if (table.size() == 0) return ok();
  const std::string_view last = table.at(table.size() - 1).path;
  if (path > last) return ok();
  if (path == last)
    return Error(Code::path_unsafe, "the path " + in_quotes(path) + " stands twice")
        .expected("each path once")
        .got("two entries");
  return Error(Code::manifest_invalid, "the entries are not sorted")
      .expected("a path after " + in_quotes(last) + " in the order of bytes")
      .got(in_quotes(path));
}

// Most entries follow their directory or a neighbour in it: then there is nothing to look up.
bool parent_is_known(const EntryTable& table, std::string_view parent) {
  if (parent.empty()) return true;
  if (table.size() == 0) return false;
  const EntryView last = table.at(table.size() - 1);
  return parent_of(last.path) == parent ||
         (last.path == parent && last.type == EntryType::directory);
}

Status check_parent(const EntryTable& table, std::string_view path) {
  const std::string_view parent = parent_of(path);
  if (parent_is_known(table, parent)) return ok();
  const auto found = table.find(parent);
  if (!found)
    return Error(Code::manifest_invalid,
                 in_quotes(path) + " lies in a directory that is not listed")
        .expected("an entry " + in_quotes(parent) + " before it")
        .got("none");
  const EntryType type = table.at(*found).type;
  if (type == EntryType::directory) return ok();
  return Error(Code::path_unsafe, in_quotes(path) + " lies below something that is not a directory")
      .expected(in_quotes(parent) + " as a directory")
      .got("a " + std::string(entry_type_name(type)));
}

Status check_hardlink(const EntryTable& table, const EntryView& entry) {
  const auto found = table.find(entry.link_target);
  if (!found || table.at(*found).type != EntryType::file)
    return Error(Code::link_unsafe,
                 "the hard link " + in_quotes(entry.path) + " has no file to share")
        .expected("the path of an earlier file entry")
        .got(in_quotes(entry.link_target));
  const EntryView target = table.at(*found);
  if (target.mode == entry.mode && target.mtime == entry.mtime) return ok();
  return Error(Code::manifest_invalid,
               "the hard link " + in_quotes(entry.path) + " differs from its file")
      .expected("mode " + mode_text(target.mode) + " and mtime " + std::to_string(target.mtime))
      .got("mode " + mode_text(entry.mode) + " and mtime " + std::to_string(entry.mtime));
}

Status check_target(const EntryTable& table, const EntryView& entry) {
  switch (entry.type) {
    case EntryType::symlink:
      return check_symlink_target(entry);
    case EntryType::hardlink:
      return check_hardlink(table, entry);
    case EntryType::file:
    case EntryType::directory:
      break;
  }
  return ok();
}

}  // namespace

std::string_view entry_type_name(EntryType type) {
  switch (type) {
    case EntryType::file:
      return "file";
    case EntryType::directory:
      return "directory";
    case EntryType::symlink:
      return "symlink";
    case EntryType::hardlink:
      return "hardlink";
  }
  return "unknown";
}

EntryView EntryTable::at(std::size_t index) const {
  const Row& row = rows_[index];
  const std::string_view name =
      names_.at(row.name_at, std::size_t{row.path_length} + row.target_length);
  return {.path = name.substr(0, row.path_length),
          .type = static_cast<EntryType>(row.type),
          .mode = static_cast<std::uint16_t>(row.mode),
          .size = row.size,
          .mtime = static_cast<std::int64_t>(row.mtime),
          .sha256 = row.sha256,
          .link_target = name.substr(row.path_length)};
}

std::optional<std::size_t> EntryTable::find(std::string_view path) const {
  const auto found = std::lower_bound(
      rows_.begin(), rows_.end(), path,
      [this](const Row& row, std::string_view wanted) { return path_of(row) < wanted; });
  if (found == rows_.end() || path_of(*found) != path) return std::nullopt;
  return static_cast<std::size_t>(found - rows_.begin());
}

base::Status EntryTable::add(const EntryView& entry) {
  UPD_TRY(check_path(entry.path));
  UPD_TRY(check_order(*this, entry.path));
  UPD_TRY(check_room(*this, entry));
  UPD_TRY(check_attributes(entry));
  UPD_TRY(check_parent(*this, entry.path));
  UPD_TRY(check_target(*this, entry));
  // All of them were checked to be below these masks, which are those of the fields.
  Row row{};
  row.size = entry.size & ((1ULL << 54) - 1);
  row.mode = entry.mode & 0777ULL;
  row.mtime = static_cast<std::uint64_t>(entry.mtime) & ((1ULL << 33) - 1);
  row.path_length = entry.path.size() & 0xFFFULL;
  row.target_length = entry.link_target.size() & 0xFFFULL;
  row.type = static_cast<std::uint64_t>(entry.type) & 3ULL;
  row.name_at = names_.add(entry.path, entry.link_target);
  row.sha256 = entry.sha256;
  rows_.push_back(row);
  total_file_bytes_ += entry.size;
  name_bytes_ += entry.path.size() + entry.link_target.size();
  return ok();
}

// A deque's blocks have 512 bytes, and a pointer and malloc's own word beside each.
std::size_t EntryTable::memory_bytes() const {
  constexpr std::size_t kBlock = 512;
  constexpr std::size_t kRowsOfBlock = kBlock / sizeof(Row);
  const std::size_t blocks = rows_.size() / kRowsOfBlock + 1;
  return blocks * (kBlock + 2 * sizeof(void*)) + names_.memory_bytes();
}

}  // namespace updagent::release
