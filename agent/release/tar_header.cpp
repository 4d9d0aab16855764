#include "agent/release/tar_header.hpp"

#include <algorithm>

#include "agent/base/text.hpp"
#include "agent/release/describe.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::Status;

struct Field {
  const char* name;
  std::size_t at;
  std::size_t width;
};

constexpr Field kName{"name", 0, 100};
constexpr Field kMode{"mode", 100, 8};
constexpr Field kUid{"uid", 108, 8};
constexpr Field kGid{"gid", 116, 8};
constexpr Field kSize{"size", 124, 12};
constexpr Field kMtime{"mtime", 136, 12};
constexpr Field kChecksum{"checksum", 148, 8};
constexpr std::size_t kTypeflagAt = 156;
constexpr Field kLinkname{"linkname", 157, 100};
constexpr Field kMagic{"magic and version", 257, 8};
constexpr Field kUname{"uname", 265, 32};
constexpr Field kGname{"gname", 297, 32};
constexpr Field kDevmajor{"devmajor", 329, 8};
constexpr Field kDevminor{"devminor", 337, 8};
constexpr Field kPrefix{"prefix", 345, 155};
constexpr Field kEnd{"last twelve bytes", 500, 12};

constexpr std::string_view kUstar{"ustar\00000", 8};

std::string_view raw(TarBlock block, const Field& field) {
  return {reinterpret_cast<const char*>(block.data()) + field.at, field.width};
}

std::string up_to_nul(std::string_view bytes) {
  return std::string(bytes.substr(0, bytes.find('\0')));
}

Error unsupported(const Field& field, std::string expected, std::string got) {
  return Error(Code::header_unsupported, std::string("tar header field ") + field.name)
      .expected(std::move(expected))
      .got(std::move(got));
}

// Octal digits, then NULs or spaces to the end, at least one of them: no sign, no leading blanks,
// no base-256, nothing behind the first terminator. Here tar programs differ the most.
Result<std::uint64_t> octal(TarBlock block, const Field& field) {
  const std::string_view text = raw(block, field);
  const std::size_t digits = std::min(text.find_first_not_of("01234567"), text.size());
  const bool terminated =
      digits < text.size() &&
      text.find_first_not_of(std::string_view("\0 ", 2), digits) == std::string_view::npos;
  if (digits == 0 || !terminated)
    return unsupported(field, "octal digits and a terminator", in_quotes(text));
  std::uint64_t value = 0;  // at most eleven digits: 33 bits
  for (const char c : text.substr(0, digits)) value = value * 8 + static_cast<unsigned>(c - '0');
  return value;
}

// Text up to a NUL or the field's end, and only NULs behind it.
Result<std::string> text(TarBlock block, const Field& field) {
  const std::string_view bytes = raw(block, field);
  const std::size_t end = std::min(bytes.find('\0'), bytes.size());
  if (bytes.find_first_not_of('\0', end) != std::string_view::npos)
    return unsupported(field, "zero bytes behind its text", in_quotes(bytes));
  return std::string(bytes.substr(0, end));
}

Status expect_empty(TarBlock block, const Field& field) {
  const std::string_view bytes = raw(block, field);
  if (bytes.find_first_not_of('\0') == std::string_view::npos) return base::ok();
  return unsupported(field, "empty", in_quotes(up_to_nul(bytes)));
}

Status expect_zero(TarBlock block, const Field& field) {
  UPD_ASSIGN(const std::uint64_t value, octal(block, field));
  if (value == 0) return base::ok();
  return unsupported(field, "0", std::to_string(value));
}

Status expect_zero_or_empty(TarBlock block, const Field& field) {
  return raw(block, field)[0] == '\0' ? expect_empty(block, field) : expect_zero(block, field);
}

std::uint64_t checksum_of(TarBlock block) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < block.size(); ++i) {
    const bool own = i >= kChecksum.at && i < kChecksum.at + kChecksum.width;
    sum += own ? std::uint8_t{' '} : block[i];
  }
  return sum;
}

// Damage shows here first: a checksum that does not fit is not a question of dialect.
Status check_checksum(TarBlock block) {
  UPD_ASSIGN(const std::uint64_t stored, octal(block, kChecksum));
  const std::uint64_t sum = checksum_of(block);
  if (stored == sum) return base::ok();
  return Error(Code::artifact_damaged, "a tar header does not fit its checksum")
      .expected(std::to_string(sum))
      .got(std::to_string(stored));
}

Result<std::uint16_t> mode_of(TarBlock block) {
  UPD_ASSIGN(const std::uint64_t mode, octal(block, kMode));
  if (mode <= 0777) return static_cast<std::uint16_t>(mode);
  return Error(Code::mode_unsafe, "a mode with more than permission bits")
      .expected("0777 at most, without setuid, setgid and sticky")
      .got(mode_text(static_cast<std::uint32_t>(mode)));
}

// All that is the same for every typeflag of the profile.
Status check_common(TarBlock block) {
  if (raw(block, kMagic) != kUstar)
    return unsupported(kMagic, "\"ustar\", NUL, \"00\" (POSIX ustar)",
                       in_quotes(raw(block, kMagic)));
  for (const Field& field : {kUid, kGid}) UPD_TRY(expect_zero(block, field));
  for (const Field& field : {kDevmajor, kDevminor}) UPD_TRY(expect_zero_or_empty(block, field));
  for (const Field& field : {kUname, kGname, kEnd}) UPD_TRY(expect_empty(block, field));
  return base::ok();
}

const char* typeflag_meaning(char flag) {
  switch (flag) {
    case '\0':
      return "a file of a tar older than POSIX";
    case '3':
      return "a character device";
    case '4':
      return "a block device";
    case '6':
      return "a fifo";
    case '7':
      return "a contiguous file";
    case 'A':
      return "a Solaris ACL";
    case 'D':
      return "a GNU directory list";
    case 'K':
      return "a GNU long link name";
    case 'L':
      return "a GNU long name";
    case 'M':
      return "a part of a GNU multi-volume archive";
    case 'N':
      return "a GNU rename list";
    case 'S':
      return "a GNU sparse file";
    case 'V':
      return "a GNU volume label";
    case 'X':
      return "a Solaris extended header";
    case 'g':
      return "a pax global header";
    case 'x':
      return "a pax header behind a pax header";
    default:
      return "unknown";
  }
}

Result<EntryType> type_of(TarBlock block) {
  const auto flag = static_cast<char>(block[kTypeflagAt]);
  switch (flag) {
    case '0':
      return EntryType::file;
    case '1':
      return EntryType::hardlink;
    case '2':
      return EntryType::symlink;
    case '5':
      return EntryType::directory;
    default:
      break;
  }
  return Error(Code::header_unsupported, "a typeflag outside the profile")
      .expected("'0' file, '1' hard link, '2' symlink, '5' directory or 'x' pax header")
      .got(in_quotes({&flag, 1}) + ", " + typeflag_meaning(flag));
}

Result<std::string> ustar_path(TarBlock block) {
  UPD_ASSIGN(std::string name, text(block, kName));
  UPD_ASSIGN(const std::string prefix, text(block, kPrefix));
  if (name.empty()) return unsupported(kName, "a path", "nothing");
  return prefix.empty() ? name : prefix + "/" + name;
}

// Whether ustar's two fields can hold the path: then a pax record would be a second opinion.
bool fits_ustar(std::string_view path) {
  if (path.size() <= kName.width) return true;
  // the split that leaves the shortest prefix; any later one only makes the prefix longer
  const std::size_t slash = path.find('/', path.size() - kName.width - 1);
  return slash != std::string_view::npos && slash > 0 && slash <= kPrefix.width &&
         slash + 1 < path.size();
}

Error needless(const char* key, std::string got) {
  return Error(Code::header_unsupported, std::string("a pax record '") + key + "' without need")
      .expected("no record for what the ustar header can say")
      .got(std::move(got));
}

Result<std::string> path_of(TarBlock block, const PaxRecords& pax, EntryType type) {
  UPD_ASSIGN(std::string path, ustar_path(block));
  if (pax.path) {
    if (fits_ustar(*pax.path)) return needless("path", in_quotes(*pax.path));
    path = *pax.path;
  }
  const bool slash = path.back() == '/';
  if (type == EntryType::directory && slash) path.pop_back();
  if (slash == (type == EntryType::directory) && !path.empty()) return path;
  return unsupported(kName, "one '/' at the end of a directory's path, none otherwise",
                     in_quotes(path));
}

Result<std::uint64_t> size_of(TarBlock block, const PaxRecords& pax, EntryType type) {
  UPD_ASSIGN(std::uint64_t size, octal(block, kSize));
  if (pax.size) {
    if (*pax.size <= kMaxUstarSize) return needless("size", std::to_string(*pax.size));
    size = *pax.size;
  }
  if (type == EntryType::file || size == 0) return size;
  return unsupported(kSize, "0 for what is not a file", std::to_string(size));
}

Result<std::string> link_target_of(TarBlock block, const PaxRecords& pax, EntryType type) {
  UPD_ASSIGN(std::string target, text(block, kLinkname));
  if (pax.linkpath) {
    if (pax.linkpath->size() <= kLinkname.width)
      return needless("linkpath", in_quotes(*pax.linkpath));
    target = *pax.linkpath;
  }
  const bool link = type == EntryType::symlink || type == EntryType::hardlink;
  if (link != target.empty()) return target;
  return unsupported(kLinkname, link ? "a target" : "empty", in_quotes(target));
}

bool beyond_ascii(const std::optional<std::string>& text) {
  return text && std::any_of(text->begin(), text->end(),
                             [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
}

Error malformed_pax(std::string_view records) {
  return Error(Code::header_unsupported, "a pax record that is not well-formed")
      .expected("LENGTH KEY=VALUE and a newline")
      .got(in_quotes(records));
}

struct PaxRecord {
  std::string_view key;
  std::string_view value;
};

// Takes one record from the front of `records`.
Result<PaxRecord> take_pax_record(std::string_view& records) {
  const std::size_t space = records.find(' ');
  const auto length = base::parse_u64(records.substr(0, space));
  if (space == std::string_view::npos || !length || records[0] == '0' || *length <= space + 1 ||
      *length > records.size() || records[*length - 1] != '\n')
    return malformed_pax(records);
  const std::string_view record = records.substr(space + 1, *length - space - 2);
  const std::size_t equals = record.find('=');
  // a NUL ends the string for C programs only
  if (equals == std::string_view::npos || record.find('\0') != std::string_view::npos)
    return malformed_pax(records);
  records.remove_prefix(*length);
  return PaxRecord{record.substr(0, equals), record.substr(equals + 1)};
}

Result<std::uint64_t> pax_number(std::string_view value) {
  const auto number = base::parse_u64(value);
  if (number && *number <= kMaxTarSize && std::to_string(*number) == value) return *number;
  return Error(Code::header_unsupported, "a pax record 'size'")
      .expected("a decimal number of at most " + std::to_string(kMaxTarSize))
      .got(in_quotes(value));
}

template <class T>
Status set_once(std::optional<T>& slot, T value, std::string_view key) {
  if (slot)
    return Error(Code::header_unsupported, "a pax header says '" + std::string(key) + "' twice")
        .expected("each key once")
        .got("two records");
  slot = std::move(value);
  return base::ok();
}

Status store_pax_record(const PaxRecord& record, PaxRecords& into) {
  if (record.key == "size") {
    UPD_ASSIGN(const std::uint64_t size, pax_number(record.value));
    return set_once(into.size, size, record.key);
  }
  if (record.key != "path" && record.key != "linkpath")
    return Error(Code::header_unsupported, "a pax record outside the profile")
        .expected("the keys path, linkpath and size only")
        .got(in_quotes(record.key));
  return set_once(record.key == "path" ? into.path : into.linkpath, std::string(record.value),
                  record.key);
}

}  // namespace

bool is_zero_block(TarBlock block) {
  return std::all_of(block.begin(), block.end(), [](std::uint8_t byte) { return byte == 0; });
}

bool looks_like_tar(std::span<const std::uint8_t> bytes) {
  if (bytes.size() < kTarBlock) return false;
  const TarBlock block = bytes.first<kTarBlock>();
  if (is_zero_block(block)) return false;
  if (raw(block, kMagic).starts_with("ustar")) return true;
  const auto stored = octal(block, kChecksum);
  return stored && *stored == checksum_of(block);
}

std::string raw_path(TarBlock block) {
  const std::string prefix =
      raw(block, kMagic) == kUstar ? up_to_nul(raw(block, kPrefix)) : std::string();
  return (prefix.empty() ? "" : prefix + "/") + up_to_nul(raw(block, kName));
}

std::uint64_t padding_after(std::uint64_t size) {
  return (kTarBlock - size % kTarBlock) % kTarBlock;
}

Result<std::optional<std::uint64_t>> decode_pax_size(TarBlock block) {
  if (block[kTypeflagAt] != 'x') return std::nullopt;
  UPD_TRY(check_checksum(block));
  UPD_TRY(check_common(block));
  UPD_TRY(ustar_path(block));
  UPD_TRY(expect_empty(block, kLinkname));
  UPD_TRY(mode_of(block));
  UPD_TRY(octal(block, kMtime));
  UPD_ASSIGN(const std::uint64_t size, octal(block, kSize));
  if (size > 0 && size <= kMaxPaxBytes) return size;
  return Error(Code::header_unsupported, "the size of a pax header")
      .expected("1 to " + std::to_string(kMaxPaxBytes) + " bytes")
      .got(std::to_string(size));
}

Result<PaxRecords> decode_pax_records(std::string_view records) {
  PaxRecords out;
  while (!records.empty()) {
    UPD_ASSIGN(const PaxRecord record, take_pax_record(records));
    UPD_TRY(store_pax_record(record, out));
  }
  return out;
}

Result<TarHeader> decode_tar_header(TarBlock block, const PaxRecords& pax) {
  TarHeader header;
  UPD_TRY(check_checksum(block));
  UPD_ASSIGN(header.type, type_of(block));
  UPD_TRY(check_common(block));
  UPD_ASSIGN(header.mode, mode_of(block));
  UPD_ASSIGN(header.path, path_of(block, pax, header.type));
  UPD_ASSIGN(header.size, size_of(block, pax, header.type));
  UPD_ASSIGN(header.link_target, link_target_of(block, pax, header.type));
  UPD_ASSIGN(const std::uint64_t mtime, octal(block, kMtime));
  header.mtime = static_cast<std::int64_t>(mtime);
  header.converted_text = beyond_ascii(pax.path) || beyond_ascii(pax.linkpath);
  return header;
}

}  // namespace updagent::release
