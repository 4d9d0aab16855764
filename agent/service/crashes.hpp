// How long to wait before a process that ended by itself is started again.
#pragma once

#include <algorithm>
#include <cstdint>

#include "agent/base/clock.hpp"

namespace updagent::service {

// Doubled up to the last, forgotten after kCalm without one.
inline constexpr base::Milliseconds kFirstBackoff{100};
inline constexpr base::Milliseconds kLastBackoff{30'000};
inline constexpr base::Milliseconds kCalm{60'000};
inline constexpr int kCrashLoop = 5;  // crashes without a calm between them

class Crashes {
 public:
  // One more, now (monotonic clock): the time to wait.
  base::Milliseconds another(std::int64_t now_us) {
    if (now_us - last_us_ > kCalm.count() * 1000) in_a_row_ = 0;
    last_us_ = now_us;
    ++in_a_row_;
    base::Milliseconds wait = kFirstBackoff;
    for (int i = 1; i < in_a_row_ && wait < kLastBackoff; ++i) wait *= 2;
    return std::min(wait, kLastBackoff);
  }
  // The one crash of a row with which a loop is said.
  bool is_loop() const { return in_a_row_ == kCrashLoop; }
  int in_a_row() const { return in_a_row_; }

 private:
  int in_a_row_ = 0;
  std::int64_t last_us_ = 0;
};

}  // namespace updagent::service
