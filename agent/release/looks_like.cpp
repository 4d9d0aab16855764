#include "agent/release/looks_like.hpp"

#include <algorithm>
#include <array>
#include <string_view>

#include "agent/base/text.hpp"
#include "agent/release/describe.hpp"
#include "agent/release/tar_header.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Error;

constexpr const char* kPackHint = "`updagent pack FILE --key KEY -o OUT` makes a release of it";

struct Magic {
  std::string_view bytes;
  const char* what;
};

constexpr std::array kMagics = {
    Magic{"PK\x03\x04", "a zip file"},
    Magic{{"\xFD"
           "7zXZ\0",
           6},
          "an xz file"},
    Magic{"BZh", "a bzip2 file"},
    Magic{"7z\xBC\xAF", "a 7z file"},
    Magic{"\x04\x22\x4D\x18", "an lz4 file"},
    Magic{"\x7F"
          "ELF",
          "an ELF program"},
    Magic{"\xED\xAB\xEE\xDB", "an RPM package"},
    Magic{"!<arch>", "a Debian package or static library"},
    Magic{"-----BEGIN", "a PEM file (a key or certificate)"},
    Magic{"{", "a JSON document"},
    Magic{"#!", "a script"},
};

std::string lower_case_start(std::string_view text) {
  constexpr std::size_t kEnough = 32;  // for "<!doctype html"
  const std::size_t start = std::min(text.find_first_not_of(" \t\r\n"), text.size());
  std::string out(text.substr(start, kEnough));
  for (char& c : out) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return out;
}

bool is_html(std::string_view text) {
  const std::string start = lower_case_start(text);
  return start.starts_with("<!doctype html") || start.starts_with("<html");
}

std::string what_it_is(std::span<const std::uint8_t> head) {
  const std::string_view text(reinterpret_cast<const char*>(head.data()), head.size());
  if (looks_like_tar(head)) return "a tar file that is not compressed";
  for (const Magic& magic : kMagics)
    if (text.starts_with(magic.bytes)) return magic.what;
  if (is_zstd_skippable(head)) return "a skippable zstd frame";
  return "bytes " + hex_of_first(head);
}

Error not_an_artifact() {
  return Error(Code::not_an_artifact, "not a release artifact");
}

}  // namespace

Error not_compressed(std::span<const std::uint8_t> head) {
  const std::string_view text(reinterpret_cast<const char*>(head.data()), head.size());
  Error error = not_an_artifact().expected("a .tar.gz or .tar.zst that `updagent pack` made");
  if (head.empty()) return std::move(error).got("an empty file");
  if (is_html(text))
    return std::move(error)
        .got("an HTML page")
        .hint("the server answered with a page: open the address in a browser and check it");
  error = std::move(error).got(what_it_is(head));
  return looks_like_tar(head) ? std::move(error).hint(kPackHint) : std::move(error);
}

Error no_envelope(std::span<const std::uint8_t> head) {
  Error error = not_an_artifact().expected(in_quotes(kEnvelopePath) + " as first entry");
  if (!looks_like_tar(head))
    return std::move(error).got("compressed data that is not a tar archive");
  const std::string path = raw_path(head.first<kTarBlock>());
  if (path.starts_with(std::string(kReservedFolder) + "/"))
    return std::move(error).got("an archive that begins with " + in_quotes(path));
  return std::move(error)
      .got("an ordinary tarball that begins with " + in_quotes(path))
      .hint(kPackHint);
}

bool is_zstd_skippable(std::span<const std::uint8_t> bytes) {
  return bytes.size() >= 4 && (bytes[0] & 0xF0) == 0x50 && bytes[1] == 0x2A && bytes[2] == 0x4D &&
         bytes[3] == 0x18;
}

std::string hex_of_first(std::span<const std::uint8_t> bytes) {
  std::string out;
  for (const std::uint8_t byte : bytes.first(std::min<std::size_t>(bytes.size(), 4)))
    out += (out.empty() ? "" : " ") + base::to_hex({&byte, 1});
  return out;
}

}  // namespace updagent::release
