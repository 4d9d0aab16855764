// JSON Lines on standard output, without ever waiting for the reader: that would stop the load.
#pragma once

#include <string>

#include "tests/handoff/load/tally.hpp"

namespace load {

class Output {
 public:
  Output();
  void line(const Json& document);
  // As much as the reader takes now; everything when `all`.
  void flush(bool all = false);
  bool waiting() const { return !text_.empty(); }

 private:
  std::string text_;
};

}  // namespace load
