// A sequence of bytes that is read once, front to back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "agent/base/error.hpp"

namespace updagent::base {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // Fills part of `into` (never empty); 0 means the end.
  virtual Result<std::size_t> read(std::span<std::uint8_t> into) = 0;
  // A descriptor that poll(2) shows readable when read() does not block, or -1 if it never blocks
  // for long. With it, who reads can also wait for a stop or an interrupt.
  virtual int wait_fd() const { return -1; }
};

}  // namespace updagent::base
