#include "agent/release/decompress.hpp"

#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <limits>

#include "agent/base/text.hpp"
#include "agent/release/looks_like.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::Status;

constexpr std::string_view kFetchAgain = "fetch or copy the file again";

Error damaged(std::string_view part, std::string_view why) {
  return Error(Code::artifact_damaged, "a " + std::string(part) + " is damaged")
      .expected("data that unpacks and fits its checksum")
      .got(std::string(why))
      .hint(std::string(kFetchAgain));
}

constexpr std::array<std::uint8_t, 2> kGzipMagic = {0x1F, 0x8B};
// RFC 1952, 2.3: magic, method, flags. What the flags announce (a name, a comment, other fields) is
// text of any length that nobody signed; the seven bytes behind them say when and where it was
// made.
constexpr std::size_t kGzipPrefix = 4;
constexpr std::size_t kGzipFlagsAt = 3;

class GzipDecoder : public PartDecoder {
 public:
  GzipDecoder() = default;
  GzipDecoder(const GzipDecoder&) = delete;
  GzipDecoder& operator=(const GzipDecoder&) = delete;
  ~GzipDecoder() override {
    if (ready_) ::inflateEnd(&stream_);
  }

  std::string_view part_name() const override { return "gzip member"; }
  std::size_t prefix_size() const override { return kGzipPrefix; }

  Status check_prefix(std::span<const std::uint8_t> prefix) const override {
    if (!std::ranges::equal(prefix.first(kGzipMagic.size()), kGzipMagic))
      return Error(Code::artifact_damaged, "no gzip magic");
    if (prefix[kGzipFlagsAt] == 0) return base::ok();
    return Error(Code::header_unsupported, "the flags of a gzip member")
        .expected("0: no name, no comment, no extra field")
        .got("0x" + base::to_hex(prefix.subspan(kGzipFlagsAt, 1)))
        .hint("an ordinary .tar.gz? `updagent pack FILE --key KEY -o OUT` makes a release of it");
  }

  Status begin() override {
    constexpr int kWindowBits =
        15 + 16;  // the largest window; 16: the gzip wrapper, CRC and length
    const int status = ready_ ? ::inflateReset(&stream_) : ::inflateInit2(&stream_, kWindowBits);
    if (status != Z_OK) return Error(Code::internal, "zlib can't start");
    ready_ = true;
    return base::ok();
  }

  Result<DecodeStep> decode(std::span<const std::uint8_t> in,
                            std::span<std::uint8_t> out) override {
    constexpr std::size_t kMost = std::numeric_limits<uInt>::max();
    const std::size_t in_size = std::min(in.size(), kMost);
    const std::size_t out_size = std::min(out.size(), kMost);
    stream_.next_in = const_cast<Bytef*>(in.data());  // zlib without ZLIB_CONST; it only reads
    stream_.avail_in = static_cast<uInt>(in_size);
    stream_.next_out = out.data();
    stream_.avail_out = static_cast<uInt>(out_size);
    const int status = ::inflate(&stream_, Z_NO_FLUSH);
    if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR)
      return damaged(part_name(), stream_.msg != nullptr ? stream_.msg : "zlib gives no reason");
    return DecodeStep{in_size - stream_.avail_in, out_size - stream_.avail_out,
                      status == Z_STREAM_END};
  }

 private:
  z_stream stream_{};
  bool ready_ = false;
};

constexpr std::array<std::uint8_t, 4> kZstdMagic = {0x28, 0xB5, 0x2F, 0xFD};
// RFC 8878, 3.1.1.1.1: the byte behind the magic.
constexpr unsigned kZstdDictionaryBits = 0x03;
constexpr unsigned kZstdChecksumBit = 0x04;
constexpr unsigned kZstdReservedBits = 0x18;  // reserved, and unused

class ZstdDecoder : public PartDecoder {
 public:
  std::string_view part_name() const override { return "zstd frame"; }
  std::size_t prefix_size() const override { return kZstdMagic.size() + 1; }

  Status check_prefix(std::span<const std::uint8_t> prefix) const override {
    if (!std::ranges::equal(prefix.first(kZstdMagic.size()), kZstdMagic))
      return Error(Code::artifact_damaged, "no zstd magic");
    const unsigned descriptor = prefix[kZstdMagic.size()];
    if ((descriptor & kZstdDictionaryBits) != 0)
      return unsupported("no dictionary", "one that it needs");
    if ((descriptor & kZstdChecksumBit) == 0) return unsupported("a content checksum", "none");
    if ((descriptor & kZstdReservedBits) != 0)
      return unsupported("zero in its reserved bits", "something else");
    return base::ok();
  }

  Status begin() override {
    if (!context_) context_.reset(::ZSTD_createDCtx());
    if (!context_ ||
        ::ZSTD_isError(::ZSTD_DCtx_reset(context_.get(), ZSTD_reset_session_only)) != 0U ||
        ::ZSTD_isError(
            ::ZSTD_DCtx_setParameter(context_.get(), ZSTD_d_windowLogMax, kMaxWindowLog)) != 0U)
      return Error(Code::internal, "zstd can't start");
    return base::ok();
  }

  Result<DecodeStep> decode(std::span<const std::uint8_t> in,
                            std::span<std::uint8_t> out) override {
    ZSTD_inBuffer input{in.data(), in.size(), 0};
    ZSTD_outBuffer output{out.data(), out.size(), 0};
    const std::size_t status = ::ZSTD_decompressStream(context_.get(), &output, &input);
    if (::ZSTD_isError(status) != 0U) return refused(status);
    return DecodeStep{input.pos, output.pos, status == 0};
  }

 private:
  struct Free {
    void operator()(ZSTD_DCtx* context) const { ::ZSTD_freeDCtx(context); }
  };

  static Error unsupported(const char* expected, const char* got) {
    return Error(Code::header_unsupported, "a zstd frame of a kind that is not taken")
        .expected(expected)
        .got(got);
  }

  Error refused(std::size_t status) const {
    if (::ZSTD_getErrorCode(status) != ZSTD_error_frameParameter_windowTooLarge)
      return damaged(part_name(), ::ZSTD_getErrorName(status));
    return Error(Code::header_unsupported, "the window of a zstd frame")
        .expected("8 MiB at most (windowLog " + std::to_string(kMaxWindowLog) + ")")
        .got("more");
  }

  std::unique_ptr<ZSTD_DCtx, Free> context_;
};

bool begins_with(std::span<const std::uint8_t> bytes, std::span<const std::uint8_t> magic) {
  return bytes.size() >= magic.size() && std::ranges::equal(bytes.first(magic.size()), magic);
}

}  // namespace

bool Decompressor::recognizes(std::span<const std::uint8_t> head) {
  return begins_with(head, kGzipMagic) || begins_with(head, kZstdMagic);
}

Result<Decompressor> Decompressor::for_head(std::span<const std::uint8_t> head) {
  if (begins_with(head, kGzipMagic)) return Decompressor(std::make_unique<GzipDecoder>());
  if (begins_with(head, kZstdMagic)) return Decompressor(std::make_unique<ZstdDecoder>());
  return not_compressed(head);
}

Result<DecodeStep> Decompressor::step(std::span<const std::uint8_t> in,
                                      std::span<std::uint8_t> out) {
  if (!inside_) return begin_part(in);
  UPD_ASSIGN(const DecodeStep step, decoder_->decode(in, out));
  const bool stuck = step.consumed == 0 && step.produced == 0 && !step.ended && !in.empty();
  if (stuck) return damaged(part_name(), "it makes no progress");
  produced_ += step.produced;
  if (!step.ended) return step;
  if (produced_ == 0)
    return Error(Code::header_unsupported, "a " + std::string(part_name()) + " that holds nothing")
        .expected("at least one byte in each")
        .got("none");
  inside_ = false;
  prefix_filled_ = 0;
  ++parts_;
  return step;
}

// Gathers the first bytes of a part, which may come in pieces, and hands them to the decoder.
Result<DecodeStep> Decompressor::begin_part(std::span<const std::uint8_t> in) {
  const std::size_t size = decoder_->prefix_size();
  const std::size_t count = std::min(in.size(), size - prefix_filled_);
  std::copy_n(in.begin(), count, prefix_.begin() + static_cast<std::ptrdiff_t>(prefix_filled_));
  prefix_filled_ += count;
  const DecodeStep step{count, 0, false};
  if (prefix_filled_ < size) return step;
  const std::span prefix(prefix_.data(), size);
  if (auto status = decoder_->check_prefix(prefix); !status)
    return status.error().code() == Code::artifact_damaged ? not_a_part()
                                                           : std::move(status).error();
  UPD_TRY(decoder_->begin());
  std::array<std::uint8_t, 1> nowhere{};  // zlib refuses a null pointer even for no bytes
  UPD_ASSIGN(const DecodeStep begun, decoder_->decode(prefix, std::span(nowhere).first(0)));
  if (begun.consumed != size) return damaged(part_name(), "its header can't be read");
  inside_ = true;
  produced_ = 0;
  return step;
}

Error Decompressor::not_a_part() const {
  const std::span bytes(prefix_.data(), prefix_filled_);
  const std::string part(part_name());
  if (is_zstd_skippable(bytes))
    return Error(Code::header_unsupported, "a skippable zstd frame")
        .expected("frames with data only")
        .got("bytes " + hex_of_first(bytes));
  return Error(Code::artifact_damaged, "bytes behind the last " + part)
      .expected("the end of the file, or another " + part)
      .got("bytes " + hex_of_first(bytes));
}

Status Decompressor::finish() const {
  if (inside_)
    return Error(Code::artifact_damaged, "the file is cut short")
        .expected("the end of a " + std::string(part_name()))
        .got("the end of the file")
        .hint(std::string(kFetchAgain));
  if (prefix_filled_ > 0) return not_a_part();
  return base::ok();
}

}  // namespace updagent::release
