#include "agent/release/compress.hpp"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <string>

namespace updagent::release {
namespace {

using base::Code;
using base::Error;
using base::Status;

constexpr std::size_t kBlockBytes = 128 * 1024;  // zstd's own block size
constexpr int kGzipWindowBits = 15 + 16;         // 32 KiB window, gzip instead of zlib wrapping
constexpr int kGzipMemoryLevel = 8;       // zlib's default, written down: it shapes the output
constexpr int kGzipOsUnknown = 255;       // RFC 1952: the same file from every machine
constexpr int kLastLevelWithin8MiB = 19;  // above it zstd's own choice of window grows past ours

class GzipCompressor final : public Compressor {
 public:
  static base::Result<std::unique_ptr<Compressor>> make(int level, ByteSink sink) {
    std::unique_ptr<GzipCompressor> made(new GzipCompressor(std::move(sink)));
    if (deflateInit2(&made->stream_, level, Z_DEFLATED, kGzipWindowBits, kGzipMemoryLevel,
                     Z_DEFAULT_STRATEGY) != Z_OK)
      return Error(Code::internal, "zlib can't start");
    made->started_ = true;
    made->set_header();
    return std::unique_ptr<Compressor>(std::move(made));
  }
  ~GzipCompressor() override {
    if (started_) deflateEnd(&stream_);
  }

 protected:
  Status compress(std::span<const std::uint8_t> block, bool last) override {
    stream_.next_in = const_cast<Bytef*>(block.data());  // zlib's field is not const, it only reads
    stream_.avail_in = static_cast<uInt>(block.size());
    for (;;) {
      stream_.next_out = out_.data();
      stream_.avail_out = static_cast<uInt>(out_.size());
      const int result = deflate(&stream_, last ? Z_FINISH : Z_NO_FLUSH);
      if (result == Z_STREAM_ERROR) return Error(Code::internal, "zlib lost its state");
      const std::size_t made = out_.size() - stream_.avail_out;
      if (made != 0) UPD_TRY(emit(made));
      if (last ? result == Z_STREAM_END : stream_.avail_out != 0) break;
    }
    if (last) {
      deflateReset(&stream_);
      set_header();
    }
    return base::ok();
  }

 private:
  explicit GzipCompressor(ByteSink sink) : Compressor(std::move(sink)) {}
  void set_header() {
    header_ = gz_header{};
    header_.os = kGzipOsUnknown;
    deflateSetHeader(&stream_, &header_);
  }

  z_stream stream_{};
  gz_header header_{};
  bool started_ = false;
};

class ZstdCompressor final : public Compressor {
 public:
  static base::Result<std::unique_ptr<Compressor>> make(int level, ByteSink sink) {
    std::unique_ptr<ZstdCompressor> made(new ZstdCompressor(std::move(sink)));
    made->context_.reset(ZSTD_createCCtx());
    if (!made->context_) return Error(Code::internal, "zstd can't start");
    UPD_TRY(made->set(ZSTD_c_compressionLevel, level));
    UPD_TRY(made->set(ZSTD_c_checksumFlag, 1));
    if (level > kLastLevelWithin8MiB) UPD_TRY(made->set(ZSTD_c_windowLog, kMaxZstdWindowLog));
    return std::unique_ptr<Compressor>(std::move(made));
  }

 protected:
  Status compress(std::span<const std::uint8_t> block, bool last) override {
    ZSTD_inBuffer in{block.data(), block.size(), 0};
    for (;;) {
      ZSTD_outBuffer out{out_.data(), out_.size(), 0};
      const std::size_t left =
          ZSTD_compressStream2(context_.get(), &out, &in, last ? ZSTD_e_end : ZSTD_e_continue);
      if (ZSTD_isError(left) != 0)
        return Error(Code::internal, std::string("zstd: ") + ZSTD_getErrorName(left));
      if (out.pos != 0) UPD_TRY(emit(out.pos));
      if (last ? left == 0 : in.pos == in.size) return base::ok();
    }
  }

 private:
  explicit ZstdCompressor(ByteSink sink) : Compressor(std::move(sink)) {}
  Status set(ZSTD_cParameter parameter, int value) {
    const std::size_t result = ZSTD_CCtx_setParameter(context_.get(), parameter, value);
    if (ZSTD_isError(result) != 0)
      return Error(Code::internal, std::string("zstd: ") + ZSTD_getErrorName(result));
    return base::ok();
  }
  struct Free {
    void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
  };
  std::unique_ptr<ZSTD_CCtx, Free> context_;
};

Status check_level(int level, int highest, const char* format) {
  if (level >= 1 && level <= highest) return base::ok();
  return Error(Code::usage, std::string("no such compression level for ") + format)
      .expected("1 to " + std::to_string(highest))
      .got(std::to_string(level));
}

}  // namespace

base::Result<std::unique_ptr<Compressor>> Compressor::make(Compression compression, int level,
                                                           ByteSink sink) {
  switch (compression) {
    case Compression::gzip:
      if (level == 0) level = kDefaultGzipLevel;
      UPD_TRY(check_level(level, Z_BEST_COMPRESSION, "gzip"));
      return GzipCompressor::make(level, std::move(sink));
    case Compression::zstd:
      if (level == 0) level = kDefaultZstdLevel;
      UPD_TRY(check_level(level, ZSTD_maxCLevel(), "zstd"));
      return ZstdCompressor::make(level, std::move(sink));
  }
  return Error(Code::internal, "unknown compression");
}

Compressor::Compressor(ByteSink sink)
    : out_(kBlockBytes), block_(kBlockBytes), sink_(std::move(sink)) {}

Status Compressor::write(std::span<const std::uint8_t> bytes) {
  while (!bytes.empty()) {
    const std::size_t count = std::min(bytes.size(), block_.size() - filled_);
    std::copy_n(bytes.begin(), count, block_.begin() + static_cast<std::ptrdiff_t>(filled_));
    filled_ += count;
    bytes = bytes.subspan(count);
    if (filled_ < block_.size()) continue;
    UPD_TRY(compress(block_, false));
    filled_ = 0;
  }
  return base::ok();
}

Status Compressor::end_member() {
  const std::size_t count = std::exchange(filled_, std::size_t{0});
  return compress(std::span(block_).first(count), true);
}

}  // namespace updagent::release
