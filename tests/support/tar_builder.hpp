// Builds tar archives and compressed files with control over every byte, the wrong ones included:
// for tests of the reader, the bad artifacts in fixtures/ and the seeds of the fuzzers. Contains no
// product code, so that a mistake there can't hide here.
#pragma once

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace updagent::testing {

inline constexpr std::size_t kTarBlockBytes = 512;

// Octal digits with leading zeros and a NUL, `width` bytes in all.
inline std::string octal_field(std::uint64_t value, std::size_t width) {
  std::string out(width, '\0');
  for (std::size_t i = width - 1; i-- > 0; value >>= 3)
    out[i] = static_cast<char>('0' + (value & 7));
  return out;
}

// GNU's binary number: first bit set, then big endian.
inline std::string base256_field(std::uint64_t value, std::size_t width) {
  std::string out(width, '\0');
  for (std::size_t i = width; i-- > 1; value >>= 8) out[i] = static_cast<char>(value & 0xFF);
  out[0] = '\x80';
  return out;
}

// Each field's raw bytes, put at its place and cut to its width; the rest of a field stays zero.
struct TarFields {
  std::string name;
  std::string mode = octal_field(0644, 8);
  std::string uid = octal_field(0, 8);
  std::string gid = octal_field(0, 8);
  std::string size = octal_field(0, 12);
  std::string mtime = octal_field(0, 12);
  std::optional<std::string> checksum;  // nothing: the right one
  char typeflag = '0';
  std::string linkname;
  std::string magic{"ustar\0", 6};
  std::string version = "00";
  std::string uname;
  std::string gname;
  std::string devmajor = octal_field(0, 8);
  std::string devminor = octal_field(0, 8);
  std::string prefix;
  std::string end;  // the twelve bytes that no field claims
};

namespace tar_detail {
inline void put(std::string& block, std::size_t at, std::size_t width, std::string_view bytes) {
  bytes = bytes.substr(0, width);
  std::copy(bytes.begin(), bytes.end(), block.begin() + static_cast<std::ptrdiff_t>(at));
}
}  // namespace tar_detail

inline std::string tar_checksum(std::string_view block) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < block.size(); ++i)
    sum += i >= 148 && i < 156 ? static_cast<unsigned char>(' ')
                               : static_cast<unsigned char>(block[i]);
  return octal_field(sum, 7) + " ";
}

inline std::string tar_block(const TarFields& fields) {
  using tar_detail::put;
  std::string block(kTarBlockBytes, '\0');
  put(block, 0, 100, fields.name);
  put(block, 100, 8, fields.mode);
  put(block, 108, 8, fields.uid);
  put(block, 116, 8, fields.gid);
  put(block, 124, 12, fields.size);
  put(block, 136, 12, fields.mtime);
  block[156] = fields.typeflag;
  put(block, 157, 100, fields.linkname);
  put(block, 257, 6, fields.magic);
  put(block, 263, 2, fields.version);
  put(block, 265, 32, fields.uname);
  put(block, 297, 32, fields.gname);
  put(block, 329, 8, fields.devmajor);
  put(block, 337, 8, fields.devminor);
  put(block, 345, 155, fields.prefix);
  put(block, 500, 12, fields.end);
  put(block, 148, 8, fields.checksum.value_or(tar_checksum(block)));
  return block;
}

// `content` filled up to whole blocks.
inline std::string to_blocks(std::string content, char filler = '\0') {
  while (content.size() % kTarBlockBytes != 0) content += filler;
  return content;
}

inline TarFields file_fields(std::string name, std::uint64_t size, unsigned mode = 0644,
                             std::uint64_t mtime = 0) {
  TarFields fields;
  fields.name = std::move(name);
  fields.mode = octal_field(mode, 8);
  fields.size = octal_field(size, 12);
  fields.mtime = octal_field(mtime, 12);
  return fields;
}

inline TarFields directory_fields(std::string name, unsigned mode = 0755, std::uint64_t mtime = 0) {
  TarFields fields = file_fields(std::move(name), 0, mode, mtime);
  fields.typeflag = '5';
  return fields;
}

inline TarFields link_fields(char typeflag, std::string name, std::string target, unsigned mode,
                             std::uint64_t mtime = 0) {
  TarFields fields = file_fields(std::move(name), 0, mode, mtime);
  fields.typeflag = typeflag;
  fields.linkname = std::move(target);
  return fields;
}

inline std::string tar_entry(const TarFields& fields, const std::string& content = "") {
  return tar_block(fields) + to_blocks(content);
}

// "LENGTH KEY=VALUE\n", where the length counts itself.
inline std::string pax_record(const std::string& key, const std::string& value) {
  const std::string rest = " " + key + "=" + value + "\n";
  std::size_t length = rest.size();
  while (std::to_string(length).size() + rest.size() != length) ++length;
  return std::to_string(length) + rest;
}

// A header with records as its body: 'x' for the next entry, 'g' for all.
inline std::string pax_header(const std::string& records, char typeflag = 'x') {
  TarFields fields = file_fields("././@PaxHeader", records.size());
  fields.typeflag = typeflag;
  return tar_entry(fields, records);
}

inline std::string end_of_archive() {
  return std::string(2 * kTarBlockBytes, '\0');
}

// The tests' tools have no way to go on without memory.
inline void must(bool condition) {
  if (!condition) std::abort();
}

inline std::string gzip_member(std::string_view bytes, int level = 6) {
  z_stream stream{};
  must(::deflateInit2(&stream, level, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string out(::deflateBound(&stream, static_cast<uLong>(bytes.size())), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  must(::deflate(&stream, Z_FINISH) == Z_STREAM_END);
  out.resize(out.size() - stream.avail_out);
  ::deflateEnd(&stream);
  return out;
}

struct ZstdOptions {
  int level = 3;
  bool checksum = true;
  std::optional<int> window_log = {};  // forces a frame with this window, whatever its size
};

inline std::string zstd_frame(std::string_view bytes, const ZstdOptions& options = {}) {
  ZSTD_CCtx* context = ::ZSTD_createCCtx();
  must(context != nullptr);
  ::ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, options.level);
  ::ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, options.checksum ? 1 : 0);
  if (options.window_log) {
    ::ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, 0);
    ::ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, *options.window_log);
  }
  std::string out(::ZSTD_compressBound(bytes.size()) + 64, '\0');
  ZSTD_outBuffer output{out.data(), out.size(), 0};
  // In two calls, so that the size is not known when the frame begins and the window is as asked.
  ZSTD_inBuffer input{bytes.data(), bytes.size(), 0};
  ::ZSTD_compressStream2(context, &output, &input, ZSTD_e_continue);
  must(::ZSTD_compressStream2(context, &output, &input, ZSTD_e_end) == 0);
  out.resize(output.pos);
  ::ZSTD_freeCCtx(context);
  return out;
}

inline std::string zstd_skippable_frame(std::string_view bytes) {
  std::string out("\x50\x2A\x4D\x18", 4);
  for (unsigned shift = 0; shift < 32; shift += 8)
    out += static_cast<char>((bytes.size() >> shift) & 0xFF);
  return out + std::string(bytes);
}

enum class Packing { gzip, zstd };

inline std::string compressed_part(std::string_view bytes, Packing packing) {
  return packing == Packing::gzip ? gzip_member(bytes) : zstd_frame(bytes);
}

// An artifact in pieces: change what shall be wrong, then build().
struct ArtifactPieces {
  std::string envelope;              // the tar entry (blocks) that stands alone in the first part
  std::string manifest;              // the tar entry of the manifest
  std::vector<std::string> entries;  // tar entries
  std::string end = end_of_archive();

  std::string rest() const {
    std::string out = manifest;
    for (const std::string& entry : entries) out += entry;
    return out + end;
  }
  std::string build(Packing packing) const {
    return compressed_part(envelope, packing) + compressed_part(rest(), packing);
  }
};

}  // namespace updagent::testing
