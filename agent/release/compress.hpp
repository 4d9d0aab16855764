// Compresses the members (gzip) or frames (zstd) that an artifact is made of. The output depends on
// the bytes, the library and the level alone: one thread, fixed headers, fixed input blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "agent/base/error.hpp"
#include "agent/release/pack.hpp"

namespace updagent::release {

inline constexpr int kDefaultGzipLevel = 6;
inline constexpr int kDefaultZstdLevel = 10;
// Readers refuse a larger window (docs/artifact.md): 8 MiB is what an unpacking node pays.
inline constexpr int kMaxZstdWindowLog = 23;

using ByteSink = std::function<base::Status(std::span<const std::uint8_t>)>;

class Compressor {
 public:
  // `level` 0 is the default of the format; Code::usage for one that the format doesn't have.
  static base::Result<std::unique_ptr<Compressor>> make(Compression compression, int level,
                                                        ByteSink sink);
  virtual ~Compressor() = default;
  Compressor(const Compressor&) = delete;
  Compressor& operator=(const Compressor&) = delete;

  // The first write after the start or after end_member() begins a member.
  base::Status write(std::span<const std::uint8_t> bytes);
  base::Status end_member();

 protected:
  explicit Compressor(ByteSink sink);
  // Takes all of `block`; with `last` the member is complete afterwards and the next begins.
  virtual base::Status compress(std::span<const std::uint8_t> block, bool last) = 0;
  base::Status emit(std::size_t count) { return sink_(std::span(out_).first(count)); }

  std::vector<std::uint8_t> out_;

 private:
  std::vector<std::uint8_t> block_;  // collects input to a fixed size: short reads change nothing
  std::size_t filled_ = 0;
  ByteSink sink_;
};

}  // namespace updagent::release
