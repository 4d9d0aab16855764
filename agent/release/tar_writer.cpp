#include "agent/release/tar_writer.hpp"

#include <algorithm>
#include <array>
#include <numeric>
#include <optional>
#include <string_view>
#include <utility>

#include "agent/release/describe.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Error;
using base::Status;

struct Field {
  std::size_t at;
  std::size_t length;
};
constexpr Field kName{0, 100};
constexpr Field kMode{100, 8};
constexpr Field kUid{108, 8};
constexpr Field kGid{116, 8};
constexpr Field kSize{124, 12};
constexpr Field kMtime{136, 12};
constexpr Field kChecksum{148, 8};
constexpr std::size_t kTypeAt = 156;
constexpr Field kLinkName{157, 100};
constexpr Field kMagic{257, 8};  // "ustar\0" and the version "00"
constexpr Field kDevMajor{329, 8};
constexpr Field kDevMinor{337, 8};
constexpr Field kPrefix{345, 155};

// What a tool that doesn't know pax would unpack it as; the name that Python's tarfile made common.
constexpr std::string_view kPaxName = "././@PaxHeader";

void put(std::string& block, Field field, std::string_view text) {
  text = text.substr(0, field.length);
  std::copy(text.begin(), text.end(), block.begin() + static_cast<std::ptrdiff_t>(field.at));
}

// Zero-padded octal digits and a NUL: they fill the field.
void put_octal(std::string& block, Field field, std::uint64_t value) {
  for (std::size_t i = field.length - 1; i-- > 0; value >>= 3)
    block[field.at + i] = static_cast<char>('0' + (value & 7));
}

// The sum of all bytes with the checksum field taken as spaces.
void put_checksum(std::string& block) {
  std::fill_n(block.begin() + static_cast<std::ptrdiff_t>(kChecksum.at), kChecksum.length, ' ');
  const unsigned sum = std::accumulate(
      block.begin(), block.end(), 0U,
      [](unsigned total, char byte) { return total + static_cast<unsigned char>(byte); });
  // six digits, NUL, space: the form that every tar since the seventh edition wrote
  put_octal(block, {kChecksum.at, kChecksum.length - 1}, sum);
  block[kChecksum.at + 6] = '\0';
}

// Where the '/' is that divides `path` into prefix and name; npos: all of it is the name. Nothing
// if it fits in no way. The leftmost possible '/' would do too; one rule makes one output.
std::optional<std::size_t> ustar_split(std::string_view path) {
  if (path.size() <= kName.length) return std::string_view::npos;
  const std::size_t slash = path.find('/', path.size() - kName.length - 1);
  if (slash == std::string_view::npos || slash == 0 || slash > kPrefix.length) return std::nullopt;
  if (slash + 1 == path.size()) return std::nullopt;  // a directory's last '/' is no divider
  return slash;
}

// The length counts itself: "30 mtime=1350244992.023960108\n".
std::string pax_record(std::string_view key, std::string_view value) {
  const std::string rest = " " + std::string(key) + "=" + std::string(value) + "\n";
  std::size_t length = rest.size() + 1;
  while (std::to_string(length).size() + rest.size() != length)
    length = std::to_string(length).size() + rest.size();
  return std::to_string(length) + rest;
}

// At most `limit` bytes, not ending inside a UTF-8 sequence.
std::string_view clipped(std::string_view text, std::size_t limit) {
  if (text.size() <= limit) return text;
  while (limit > 0 && (static_cast<unsigned char>(text[limit]) & 0xC0) == 0x80) --limit;
  return text.substr(0, limit);
}

char type_flag(EntryType type) {
  switch (type) {
    case EntryType::file:
      return '0';
    case EntryType::hardlink:
      return '1';
    case EntryType::symlink:
      return '2';
    case EntryType::directory:
      return '5';
  }
  return '\0';
}

std::string empty_block(char type, unsigned mode, std::uint64_t size, std::int64_t mtime) {
  std::string block(kTarBlock, '\0');
  put_octal(block, kMode, mode);
  put_octal(block, kUid, 0);
  put_octal(block, kGid, 0);
  put_octal(block, kSize, size);
  put_octal(block, kMtime, static_cast<std::uint64_t>(mtime));
  block[kTypeAt] = type;
  put(block, kMagic,
      std::string_view("ustar\0"
                       "00",
                       8));
  put_octal(block, kDevMajor, 0);
  put_octal(block, kDevMinor, 0);
  return block;
}

std::string pax_blocks(const std::string& records) {
  constexpr unsigned kPaxMode = 0644;
  std::string block = empty_block('x', kPaxMode, records.size(), 0);
  put(block, kName, kPaxName);
  put_checksum(block);
  block += records;
  block.append(static_cast<std::size_t>(padding_after(records.size())), '\0');
  return block;
}

}  // namespace

base::Result<std::string> tar_header(const EntryView& entry) {
  if (entry.mtime < 0 || entry.mtime > kMaxTime)
    return Error(Code::internal, in_quotes(entry.path) + " has a time that tar can't say")
        .expected("0 to " + std::to_string(kMaxTime))
        .got(std::to_string(entry.mtime));
  std::string path(entry.path);
  if (entry.type == EntryType::directory) path += '/';
  const auto split = ustar_split(path);
  std::string records;  // keys in byte order
  if (entry.link_target.size() > kLinkName.length)
    records += pax_record("linkpath", entry.link_target);
  if (!split) records += pax_record("path", path);
  if (entry.size > kMaxUstarSize) records += pax_record("size", std::to_string(entry.size));

  std::string block = empty_block(type_flag(entry.type), entry.mode,
                                  entry.size > kMaxUstarSize ? 0 : entry.size, entry.mtime);
  const bool divided = split && *split != std::string_view::npos;
  if (divided) put(block, kPrefix, std::string_view(path).substr(0, *split));
  put(block, kName,
      clipped(divided ? std::string_view(path).substr(*split + 1) : path, kName.length));
  put(block, kLinkName, clipped(entry.link_target, kLinkName.length));
  put_checksum(block);
  return records.empty() ? block : pax_blocks(records) + block;
}

Status TarWriter::begin(const EntryView& entry) {
  UPD_ASSIGN(const std::string header, tar_header(entry));
  size_ = left_ = entry.type == EntryType::file ? entry.size : 0;
  return sink_(std::span(reinterpret_cast<const std::uint8_t*>(header.data()), header.size()));
}

Status TarWriter::content(std::span<const std::uint8_t> bytes) {
  if (bytes.size() > left_) return Error(Code::internal, "more content than the header said");
  left_ -= bytes.size();
  return sink_(bytes);
}

Status TarWriter::end() {
  if (left_ != 0) return Error(Code::internal, "less content than the header said");
  return zeros(static_cast<std::size_t>(padding_after(size_)));
}

Status TarWriter::finish() {
  return zeros(2 * kTarBlock);
}

Status TarWriter::zeros(std::size_t count) {
  static constexpr std::array<std::uint8_t, 2 * kTarBlock> kZeros{};
  return sink_(std::span(kZeros).first(count));
}

}  // namespace updagent::release
