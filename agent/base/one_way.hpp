// Bytes on their way from one descriptor to another, with the end of the stream handed on as well
// (half-close). Two of them, one each way, are a relay.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "agent/base/error.hpp"

namespace updagent::base {

// As much as is read ahead of a slow reader. A chunk of a relay, not a throughput record.
inline constexpr std::size_t kOneWayBytes = 32UL * 1024;

class OneWay {
 public:
  // What there is to wait for at the two ends.
  bool wants_input() const { return !ended_ && used() < kOneWayBytes; }
  bool wants_output() const { return used() > 0; }
  // Nothing more comes and all of it is written: the end can be handed on.
  bool over() const { return ended_ && used() == 0; }

  // Takes what one read gives. A descriptor that would block has nothing for us, which is fine.
  Status take(int fd);
  // Writes what one write takes, at most `at_most` bytes (of a descriptor that may block).
  Status give(int fd, std::size_t at_most = kOneWayBytes);
  // In front of everything that is read.
  void put(std::string_view bytes);

 private:
  std::size_t used() const { return bytes_.size() - given_; }

  std::vector<char> bytes_;
  std::size_t given_ = 0;
  bool ended_ = false;
};

}  // namespace updagent::base
