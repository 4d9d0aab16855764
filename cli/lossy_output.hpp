// Writing to where perhaps nobody reads: a full pipe, a terminal stopped by ^S, a hung ssh. What a
// deployment says must never hold it up, so a line that does not fit is left out and counted.
#pragma once

#include <spdlog/common.h>
#include <sys/types.h>

#include <cstddef>
#include <string>
#include <string_view>

#include "agent/base/clock.hpp"
#include "agent/base/unique_fd.hpp"

namespace updagent::cli {

class LossyOutput {
 public:
  explicit LossyOutput(int fd);
  ~LossyOutput();
  LossyOutput(const LossyOutput&) = delete;
  LossyOutput& operator=(const LossyOutput&) = delete;

  // A line with its end. It is shown, or counted as left out; the number is told when there is
  // room again. All lines together wait kPatience at most.
  void line(std::string_view text);
  // What nobody misses, as a bar: shown if there is room at once. Says whether it was.
  bool decoration(std::string_view text);
  // For what is said when everything has ended: waits until it is written.
  void last_words(std::string_view text);

 private:
  std::size_t put(std::string_view text);
  ssize_t put_once(std::string_view text);
  bool begin(std::string_view text);
  bool catch_up();
  bool wait_for_room(base::Milliseconds at_most);

  int fd_;
  base::UniqueFd own_;  // the same pipe or terminal, opened once more: does not block
  bool socket_ = false;
  std::size_t piece_ = 0;  // of one write where own_ could not be opened
  bool broken_ = false;    // nobody will ever read it
  std::string rest_;       // of a line that was begun
  std::size_t left_out_ = 0;
  base::Milliseconds patience_;
  pid_t owner_;  // a forked child has other files under the numbers of ours
};

// Lines of the log go through `output`, which outlives the sink.
spdlog::sink_ptr lossy_sink(LossyOutput& output);

}  // namespace updagent::cli
