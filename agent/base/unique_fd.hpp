// A descriptor with one owner.
#pragma once

#include <unistd.h>

#include <utility>

namespace updagent::base {

class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int raw_fd) : raw_(raw_fd) {}
  UniqueFd(UniqueFd&& other) noexcept : raw_(std::exchange(other.raw_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(std::exchange(other.raw_, -1));
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { reset(); }

  int get() const { return raw_; }
  explicit operator bool() const { return raw_ >= 0; }
  // Gives the descriptor away: the caller owns it now.
  [[nodiscard]] int release() { return std::exchange(raw_, -1); }
  void reset(int raw_fd = -1) {
    if (raw_ >= 0) ::close(raw_);
    raw_ = raw_fd;
  }

 private:
  int raw_ = -1;
};

}  // namespace updagent::base
