// SHA-256 of many files with one buffer: a release has up to 262,144 of them.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "agent/base/digest.hpp"
#include "agent/base/error.hpp"
#include "agent/base/interrupt.hpp"

namespace updagent::store {

class FileHasher {
 public:
  FileHasher();
  // From byte 0 to the end, whatever the descriptor's position. `interrupt` may be null; once it is
  // requested the answer is Code::interrupted.
  base::Result<base::Digest> hash(int fd, std::string_view name_for_errors,
                                  base::Interrupt* interrupt = nullptr);

 private:
  std::vector<std::uint8_t> buffer_;
  base::Sha256 sha_;
};

}  // namespace updagent::store
