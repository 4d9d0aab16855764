#include "agent/release/lockstep.hpp"

#include <archive_entry.h>

#include "agent/release/describe.hpp"
#include "agent/release/entry_rules.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Error;
using base::Status;

std::string or_empty(const char* text) {
  return text != nullptr ? text : "";
}

// --- agreement of the two readers ---------------------------------------------------------------

Error disagree(const TarHeader& header, const char* what, std::string ours, std::string theirs) {
  return Error(Code::header_unsupported, "entry " + in_quotes(header.path) +
                                             ": two tar readers understand its " + what +
                                             " differently")
      .expected(std::move(ours))
      .got(std::move(theirs));
}

EntryType type_of(archive_entry* parsed) {
  if (::archive_entry_hardlink(parsed) != nullptr) return EntryType::hardlink;
  if (::archive_entry_filetype(parsed) == AE_IFLNK) return EntryType::symlink;
  if (::archive_entry_filetype(parsed) == AE_IFDIR) return EntryType::directory;
  return EntryType::file;
}

bool known_type(archive_entry* parsed) {
  const auto type = ::archive_entry_filetype(parsed);
  return type == AE_IFREG || type == AE_IFDIR || type == AE_IFLNK ||
         ::archive_entry_hardlink(parsed) != nullptr;
}

Status check_text(const TarHeader& header, archive_entry* parsed) {
  std::string path = or_empty(::archive_entry_pathname(parsed));
  if (header.type == EntryType::directory && path.ends_with('/')) path.pop_back();
  if (path != header.path) return disagree(header, "path", in_quotes(header.path), in_quotes(path));
  const std::string target = header.type == EntryType::hardlink
                                 ? or_empty(::archive_entry_hardlink(parsed))
                                 : or_empty(::archive_entry_symlink(parsed));
  if (target != header.link_target)
    return disagree(header, "link target", in_quotes(header.link_target), in_quotes(target));
  return base::ok();
}

Status check_numbers(const TarHeader& header, archive_entry* parsed) {
  const auto mode = static_cast<std::uint32_t>(::archive_entry_perm(parsed));
  if (mode != header.mode) return disagree(header, "mode", mode_text(header.mode), mode_text(mode));
  const std::int64_t size = ::archive_entry_size(parsed);
  if (size < 0 || static_cast<std::uint64_t>(size) != header.size)
    return disagree(header, "size", std::to_string(header.size), std::to_string(size));
  const std::int64_t mtime = ::archive_entry_mtime(parsed);
  if (mtime != header.mtime || ::archive_entry_mtime_nsec(parsed) != 0)
    return disagree(header, "mtime", std::to_string(header.mtime), std::to_string(mtime));
  return base::ok();
}

bool has_owner(archive_entry* parsed) {
  return ::archive_entry_uid(parsed) != 0 || ::archive_entry_gid(parsed) != 0 ||
         !or_empty(::archive_entry_uname(parsed)).empty() ||
         !or_empty(::archive_entry_gname(parsed)).empty();
}

bool has_attributes(archive_entry* parsed) {
  std::size_t mac_bytes = 0;
  return ::archive_entry_xattr_count(parsed) != 0 || ::archive_entry_acl_types(parsed) != 0 ||
         ::archive_entry_fflags_text(parsed) != nullptr ||
         ::archive_entry_sparse_count(parsed) != 0 ||
         ::archive_entry_mac_metadata(parsed, &mac_bytes) != nullptr ||
         ::archive_entry_is_encrypted(parsed) != 0;
}

bool has_other_times(archive_entry* parsed) {
  return ::archive_entry_atime_is_set(parsed) != 0 || ::archive_entry_ctime_is_set(parsed) != 0 ||
         ::archive_entry_birthtime_is_set(parsed) != 0;
}

// --- against the manifest -----------------------------------------------------------------------

Error mismatch(const EntryView& signed_entry, const char* what, std::string expected,
               std::string got) {
  return Error(Code::entry_mismatch, "entry " + in_quotes(signed_entry.path) + " has another " +
                                         what + " than the manifest says")
      .expected(std::move(expected))
      .got(std::move(got));
}

Error extra(const TarHeader& header, const char* got) {
  return Error(Code::entry_extra, "entry " + in_quotes(header.path) + " is not in the manifest")
      .expected("the manifest's entries only")
      .got(got);
}

Error missing(const EntryView& next, const TarHeader& header) {
  return Error(Code::entry_missing, "entry " + in_quotes(next.path) + " is missing in its place")
      .expected(in_quotes(next.path))
      .got(in_quotes(header.path));
}

// The path is not the one that comes next: say which of the two is wrong.
Status wrong_path(const TarHeader& header, const EntryTable& table, std::size_t index) {
  if (header.path == kEnvelopePath || header.path == kManifestPath)
    return extra(header, "it a second time");
  UPD_TRY(check_path(header.path));
  const auto known = table.find(header.path);
  if (!known) return extra(header, "one more");
  if (*known < index) return extra(header, "it a second time, or too late");
  return missing(table.at(index), header);
}

}  // namespace

Status check_agreement(const TarHeader& header, archive_entry* parsed,
                       const std::optional<std::string>& warning) {
  if (warning && !header.converted_text)
    return Error(Code::header_unsupported,
                 "entry " + in_quotes(header.path) + ": a doubtful tar header")
        .got("libarchive: " + *warning);
  if (!known_type(parsed) || type_of(parsed) != header.type)
    return disagree(header, "type", std::string(entry_type_name(header.type)), "another");
  if (!header.converted_text) UPD_TRY(check_text(header, parsed));
  UPD_TRY(check_numbers(header, parsed));
  if (has_owner(parsed)) return disagree(header, "owner", "0:0, no names", "another");
  if (has_attributes(parsed) || has_other_times(parsed))
    return disagree(header, "attributes", "none", "ACLs, xattrs, flags, holes or further times");
  return base::ok();
}

Status check_entry(const TarHeader& header, const EntryTable& table, std::size_t index) {
  if (index >= table.size() || table.at(index).path != header.path)
    return wrong_path(header, table, index);
  const EntryView entry = table.at(index);
  if (entry.type != header.type)
    return mismatch(entry, "type", std::string(entry_type_name(entry.type)),
                    std::string(entry_type_name(header.type)));
  if (entry.mode != header.mode)
    return mismatch(entry, "mode", mode_text(entry.mode), mode_text(header.mode));
  if (entry.size != header.size)
    return mismatch(entry, "size", std::to_string(entry.size), std::to_string(header.size));
  if (entry.mtime != header.mtime)
    return mismatch(entry, "mtime", std::to_string(entry.mtime), std::to_string(header.mtime));
  if (entry.link_target != header.link_target)
    return mismatch(entry, "link target", in_quotes(entry.link_target),
                    in_quotes(header.link_target));
  return base::ok();
}

Status check_metadata_entry(const TarHeader& header, const char* path) {
  if (header.path != path)
    return Error(Code::entry_missing, "entry " + in_quotes(path) + " is missing in its place")
        .expected(in_quotes(path))
        .got(in_quotes(header.path));
  constexpr std::uint16_t kMetadataMode = 0644;
  if (header.type == EntryType::file && header.mode == kMetadataMode) return base::ok();
  return Error(Code::header_unsupported, "entry " + in_quotes(path))
      .expected("a file of mode " + mode_text(kMetadataMode))
      .got(std::string(entry_type_name(header.type)) + " of mode " + mode_text(header.mode));
}

}  // namespace updagent::release
