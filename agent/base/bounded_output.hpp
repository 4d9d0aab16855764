// Keeps the first half and the last half of a stream that may be endless.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace updagent::base {

class BoundedOutput {
 public:
  explicit BoundedOutput(std::size_t limit)
      : first_limit_(limit / 2), last_limit_(limit - limit / 2) {}

  void add(std::string_view bytes) {
    total_ += bytes.size();
    const std::size_t to_first = std::min(bytes.size(), first_limit_ - first_.size());
    first_.append(bytes.substr(0, to_first));
    bytes.remove_prefix(to_first);
    if (bytes.size() > last_limit_) bytes.remove_prefix(bytes.size() - last_limit_);
    last_.append(bytes);
    // only when it has doubled, so that a stream of small pieces isn't moved once per piece
    if (last_.size() > 2 * last_limit_) trim();
  }

  bool truncated() const { return total_ > first_limit_ + last_limit_; }

  // With a line that says how much is missing where it is missing.
  std::string text() {
    trim();
    if (!truncated()) return first_ + last_;
    const std::uint64_t dropped = total_ - first_.size() - last_.size();
    return first_ + "\n[... " + std::to_string(dropped) + " bytes left out ...]\n" + last_;
  }

 private:
  void trim() {
    if (last_.size() > last_limit_) last_.erase(0, last_.size() - last_limit_);
  }

  std::size_t first_limit_;
  std::size_t last_limit_;
  std::string first_;
  std::string last_;
  std::uint64_t total_ = 0;
};

}  // namespace updagent::base
