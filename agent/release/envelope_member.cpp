#include "agent/release/envelope_member.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <zlib.h>
#include <zstd.h>

#include <cerrno>
#include <memory>
#include <vector>

#include "agent/base/files.hpp"
#include "agent/release/artifact_reader.hpp"
#include "agent/release/looks_like.hpp"
#include "agent/release/pack_files.hpp"
#include "agent/release/tar_writer.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Error;
using base::Status;
using Bytes = std::span<const std::uint8_t>;

constexpr std::uint16_t kEnvelopeMode = 0644;
// Header, the largest envelope, padding; one more byte shows that the member goes on.
constexpr std::size_t kMaxMemberBytes = kTarBlock + kMaxEnvelopeBytes + kTarBlock + 1;
constexpr std::string_view kGzipMagic = "\x1f\x8b";
constexpr std::string_view kZstdMagic = "\x28\xb5\x2f\xfd";

Bytes bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

Error damaged(std::string got) {
  return Error(Code::artifact_damaged, "the first part of the artifact is damaged")
      .expected("a compressed envelope")
      .got(std::move(got))
      .hint("the file is cut short or was changed: fetch or copy it again");
}

struct Member {
  std::string content;
  std::size_t length = 0;  // compressed
  bool complete = false;
};

base::Result<Member> inflate_member(std::string_view head) {
  z_stream stream{};
  constexpr int kGzipWindowBits = 15 + 16;
  if (inflateInit2(&stream, kGzipWindowBits) != Z_OK)
    return Error(Code::internal, "zlib can't start");
  const std::unique_ptr<z_stream, int (*)(z_stream*)> owner(&stream, inflateEnd);
  Member member;
  member.content.resize(kMaxMemberBytes);
  stream.next_in = const_cast<Bytef*>(bytes_of(head).data());  // zlib only reads it
  stream.avail_in = static_cast<uInt>(head.size());
  stream.next_out = reinterpret_cast<Bytef*>(member.content.data());
  stream.avail_out = static_cast<uInt>(member.content.size());
  const int result = inflate(&stream, Z_NO_FLUSH);
  if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)
    return damaged(stream.msg == nullptr ? "bad gzip data" : stream.msg);
  member.content.resize(member.content.size() - stream.avail_out);
  member.length = head.size() - stream.avail_in;
  member.complete = result == Z_STREAM_END;
  return member;
}

base::Result<Member> decode_frame(std::string_view head) {
  const std::unique_ptr<ZSTD_DCtx, std::size_t (*)(ZSTD_DCtx*)> context(ZSTD_createDCtx(),
                                                                        ZSTD_freeDCtx);
  if (!context) return Error(Code::internal, "zstd can't start");
  ZSTD_DCtx_setParameter(context.get(), ZSTD_d_windowLogMax, kMaxZstdWindowLog);
  Member member;
  member.content.resize(kMaxMemberBytes);
  ZSTD_inBuffer in{head.data(), head.size(), 0};
  ZSTD_outBuffer out{member.content.data(), member.content.size(), 0};
  std::size_t result = 0;
  std::size_t before = 0;
  do {  // each turn takes input or gives output, or it is the last
    before = in.pos + out.pos;
    result = ZSTD_decompressStream(context.get(), &out, &in);
    if (ZSTD_isError(result) != 0) return damaged(ZSTD_getErrorName(result));
  } while (result != 0 && in.pos + out.pos != before);
  member.content.resize(out.pos);
  member.length = in.pos;
  member.complete = result == 0;
  return member;
}

base::Result<Member> first_member(std::string_view head, Compression& compression) {
  if (head.starts_with(kGzipMagic)) {
    compression = Compression::gzip;
    return inflate_member(head);
  }
  if (head.starts_with(kZstdMagic)) {
    compression = Compression::zstd;
    return decode_frame(head);
  }
  return not_compressed(bytes_of(head));
}

Status copy_rest(FileBytes& source, OutputFile& out) {
  constexpr std::size_t kCopyBytes = 256 * 1024;
  std::vector<std::uint8_t> buffer(kCopyBytes);
  for (;;) {
    UPD_ASSIGN(const std::size_t count, source.read(buffer));
    if (count == 0) return base::ok();
    UPD_TRY(out.write(std::span(buffer).first(count)));
  }
}

base::Result<std::string> read_head(int fd, const std::string& name) {
  std::string head(kHeadBytes, '\0');
  std::size_t filled = 0;
  while (filled < head.size()) {
    const ssize_t count =
        ::pread(fd, head.data() + filled, head.size() - filled, static_cast<off_t>(filled));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return base::system_error(errno, "cannot read '" + name + "'");
    if (count == 0) break;
    filled += static_cast<std::size_t>(count);
  }
  head.resize(filled);
  return head;
}

}  // namespace

Status write_envelope_member(Compressor& compressor, std::string_view envelope,
                             std::int64_t created) {
  if (envelope.empty() || envelope.size() > kMaxEnvelopeBytes)
    return Error(Code::envelope_invalid, "the envelope has a size that no reader takes")
        .expected("1 to " + std::to_string(kMaxEnvelopeBytes) + " bytes")
        .got(std::to_string(envelope.size()));
  TarWriter tar([&](Bytes bytes) { return compressor.write(bytes); });
  UPD_TRY(tar.begin({.path = kEnvelopePath,
                     .type = EntryType::file,
                     .mode = kEnvelopeMode,
                     .size = envelope.size(),
                     .mtime = created,
                     .sha256 = {},
                     .link_target = {}}));
  UPD_TRY(tar.content(bytes_of(envelope)));
  UPD_TRY(tar.end());
  return compressor.end_member();
}

base::Result<EnvelopeMember> find_envelope_member(std::string_view head) {
  EnvelopeMember found;
  UPD_ASSIGN(const Member member, first_member(head, found.compression));
  const Bytes content = bytes_of(member.content);
  if (content.size() < kTarBlock) return damaged("its end, before one tar header");
  if (raw_path(content.first<kTarBlock>()) != kEnvelopePath) return no_envelope(content);
  UPD_ASSIGN(const TarHeader header, decode_tar_header(content.first<kTarBlock>(), {}));
  if (header.type != EntryType::file || header.size > kMaxEnvelopeBytes)
    return no_envelope(content);
  const std::uint64_t wanted = kTarBlock + header.size + padding_after(header.size);
  if (!member.complete && content.size() <= wanted) return damaged("its end");
  if (!member.complete || content.size() != wanted)
    return Error(Code::not_an_artifact, "the envelope shares its member with other entries")
        .expected("a gzip member or zstd frame that holds entry 1 alone")
        .got("more in it")
        .hint("the file was repacked by another tool: make the artifact with 'updagent pack'");
  found.created = header.mtime;
  found.length = member.length;
  return found;
}

Status replace_envelope(const std::string& artifact, const std::string& envelope,
                        const std::string& output) {
  UPD_ASSIGN(base::UniqueFd fd, base::open_path(artifact, O_RDONLY));
  UPD_ASSIGN(const std::string head, read_head(fd.get(), artifact));
  UPD_ASSIGN(const EnvelopeMember member, find_envelope_member(head));
  struct stat about{};
  if (::fstat(fd.get(), &about) != 0)
    return base::system_error(errno, "cannot stat '" + artifact + "'");
  if (static_cast<std::uint64_t>(about.st_size) <= member.length)
    return damaged("nothing behind the envelope");
  if (::lseek(fd.get(), static_cast<off_t>(member.length), SEEK_SET) < 0)
    return base::system_error(errno, "cannot seek in '" + artifact + "'");

  UPD_ASSIGN(OutputFile out, OutputFile::create(output));
  UPD_ASSIGN(const auto compressor, Compressor::make(member.compression, 0, [&](Bytes bytes) {
               return out.write(bytes);
             }));
  UPD_TRY(write_envelope_member(*compressor, envelope, member.created));
  const std::uint64_t expected =
      out.size() + static_cast<std::uint64_t>(about.st_size) - member.length;
  FileBytes rest(std::move(fd), artifact);
  UPD_TRY(copy_rest(rest, out));
  if (out.size() != expected)
    return Error(Code::io_error, "'" + artifact + "' changed while it was copied");
  return base::Status(out.commit().map([](const base::Digest&) {}));
}

}  // namespace updagent::release
