#include "agent/release/tarball_commit.hpp"

#include <archive.h>
#include <archive_entry.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <string_view>

#include "agent/base/text.hpp"

namespace updagent::release {
namespace {

constexpr std::size_t kHeadBytes = 4096;  // the global header of git archive takes two blocks
constexpr std::size_t kBlock = 512;
constexpr std::size_t kTypeAt = 156;
constexpr std::size_t kSizeAt = 124;
constexpr std::size_t kSizeDigits = 11;

struct FreeArchive {
  void operator()(archive* handle) const { ::archive_read_free(handle); }
};

// The first bytes of what is compressed in the file.
std::string uncompressed_head(int fd) {
  const std::unique_ptr<archive, FreeArchive> handle(::archive_read_new());
  if (!handle) return "";
  ::archive_read_support_format_raw(handle.get());
  ::archive_read_support_filter_gzip(handle.get());
  ::archive_read_support_filter_zstd(handle.get());
  archive_entry* entry = nullptr;
  if (::archive_read_open_fd(handle.get(), fd, kHeadBytes) != ARCHIVE_OK ||
      ::archive_read_next_header(handle.get(), &entry) != ARCHIVE_OK)
    return "";
  std::string head(kHeadBytes, '\0');
  std::size_t filled = 0;
  while (filled < head.size()) {
    const la_ssize_t count =
        ::archive_read_data(handle.get(), head.data() + filled, head.size() - filled);
    if (count <= 0) break;
    filled += static_cast<std::size_t>(count);
  }
  head.resize(filled);
  return head;
}

std::size_t octal(std::string_view digits) {
  std::size_t value = 0;
  for (const char digit : digits) {
    if (digit < '0' || digit > '7') return 0;
    value = value * 8 + static_cast<std::size_t>(digit - '0');
  }
  return value;
}

// The value of `key` in records of the form "LENGTH key=value\n".
std::string_view pax_value(std::string_view records, std::string_view key) {
  while (!records.empty()) {
    const std::size_t space = records.find(' ');
    const auto length = base::parse_u64(records.substr(0, space));
    if (space == std::string_view::npos || !length || *length > records.size() ||
        *length < space + 2)
      return "";
    const auto size = static_cast<std::size_t>(*length);
    const std::string_view record = records.substr(space + 1, size - space - 2);
    if (record.starts_with(key) && record.substr(key.size()).starts_with('='))
      return record.substr(key.size() + 1);
    records.remove_prefix(size);
  }
  return "";
}

}  // namespace

std::string as_commit(std::string_view text) {
  constexpr std::size_t kSha1Digits = 40;
  constexpr std::size_t kSha256Digits = 64;
  if (text.size() != kSha1Digits && text.size() != kSha256Digits) return "";
  const auto bytes = base::from_hex(text);
  return bytes ? base::to_hex(*bytes) : "";
}

std::string commit_of_tarball(int fd) {
  const std::string head = uncompressed_head(fd);
  if (head.size() < 2 * kBlock || head[kTypeAt] != 'g') return "";
  const std::size_t size = octal(std::string_view(head).substr(kSizeAt, kSizeDigits));
  return as_commit(pax_value(std::string_view(head).substr(kBlock, size), "comment"));
}

}  // namespace updagent::release
