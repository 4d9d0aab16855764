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
};

}  // namespace updagent::base
