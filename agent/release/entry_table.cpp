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
  const std::string_view text = text_;
  return {.path = text.substr(row.path_at, row.path_length),
          .type = row.type,
          .mode = row.mode,
          .size = row.size,
          .mtime = row.mtime,
          .sha256 = row.sha256,
          .link_target = text.substr(row.target_at, row.target_length)};
}

std::optional<std::size_t> EntryTable::find(std::string_view path) const {
  const std::string_view text = text_;
  const auto path_of = [&](const Row& row) { return text.substr(row.path_at, row.path_length); };
  const auto found = std::lower_bound(
      rows_.begin(), rows_.end(), path,
      [&](const Row& row, std::string_view wanted) { return path_of(row) < wanted; });
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
  // 262,144 entries with the longest paths and targets are 2.1 GB of text: the offsets fit 32 bits.
  const auto path_at = static_cast<std::uint32_t>(text_.size());
  const auto target_at = static_cast<std::uint32_t>(path_at + entry.path.size());
  text_.append(entry.path).append(entry.link_target);
  rows_.push_back({.path_at = path_at,
                   .target_at = target_at,
                   .path_length = static_cast<std::uint16_t>(entry.path.size()),
                   .target_length = static_cast<std::uint16_t>(entry.link_target.size()),
                   .mode = entry.mode,
                   .type = entry.type,
                   .size = entry.size,
                   .mtime = entry.mtime,
                   .sha256 = entry.sha256});
  total_file_bytes_ += entry.size;
  return ok();
}

}  // namespace updagent::release
