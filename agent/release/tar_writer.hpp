// Writes the tar of an artifact: POSIX ustar headers, a pax extended header only where ustar can't
// say it (IEEE Std 1003.1-2017, pax, "ustar Interchange Format" and "pax Extended Header"). The
// bytes depend on the entries alone: owner 0, no names, no padding of chance.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "agent/base/error.hpp"
#include "agent/release/compress.hpp"
#include "agent/release/manifest.hpp"
#include "agent/release/tar_header.hpp"

namespace updagent::release {

// The header blocks of one entry: 512 bytes, or a pax header and its records before them.
base::Result<std::string> tar_header(const EntryView& entry);

class TarWriter {
 public:
  explicit TarWriter(ByteSink sink) : sink_(std::move(sink)) {}

  // One entry: begin, its bytes (a file's only, exactly entry.size of them), end.
  base::Status begin(const EntryView& entry);
  base::Status content(std::span<const std::uint8_t> bytes);
  base::Status end();
  // The two zero blocks.
  base::Status finish();

 private:
  base::Status zeros(std::size_t count);

  ByteSink sink_;
  std::uint64_t left_ = 0;  // of the open entry
  std::uint64_t size_ = 0;
};

}  // namespace updagent::release
