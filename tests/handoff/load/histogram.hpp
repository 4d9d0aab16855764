// Counts of times, in the manner of HdrHistogram: exact to 256 us, above that each power of two has
// 128 equal buckets, so a value is known within 0.8 %. Grows to what it has seen.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <map>

namespace load {

class Histogram {
 public:
  void record(std::int64_t us) {
    us = std::clamp<std::int64_t>(us, 0, kHighest);
    ++counts_[bucket_end(us)];
    ++total_;
    max_ = std::max(max_, us);
  }

  // The smallest recorded value that `share` of all are not above; 0 when there are none.
  std::int64_t at(double share) const {
    const double rank = std::max(1.0, std::ceil(share * static_cast<double>(total_)));
    std::uint64_t seen = 0;
    for (const auto& [end, count] : counts_) {
      seen += count;
      if (static_cast<double>(seen) >= rank) return std::min(end, max_);
    }
    return 0;
  }

  std::uint64_t total() const { return total_; }
  std::int64_t max() const { return max_; }
  // Highest value of each bucket, and how many there were: enough to add histograms elsewhere.
  const std::map<std::int64_t, std::uint64_t>& counts() const { return counts_; }

 private:
  static constexpr std::int64_t kHighest = std::int64_t{1} << 40;  // twelve days
  static constexpr int kExactBits = 8;

  static std::int64_t bucket_end(std::int64_t us) {
    const int bits = static_cast<int>(std::bit_width(static_cast<std::uint64_t>(us)));
    const int shift = std::max(0, bits - kExactBits);
    return (((us >> shift) + 1) << shift) - 1;
  }

  std::map<std::int64_t, std::uint64_t> counts_;
  std::uint64_t total_ = 0;
  std::int64_t max_ = 0;
};

}  // namespace load
