#include "cli/lossy_output.hpp"

#include <fcntl.h>
#include <poll.h>
#include <spdlog/sinks/base_sink.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <memory>
#include <mutex>

namespace updagent::cli {
namespace {

constexpr base::Milliseconds kPatience{200};  // of all lines together: nobody notices
constexpr base::Milliseconds kForEver{-1};

// O_NONBLOCK on the descriptor itself would be seen by everyone who shares it, the shell too.
base::UniqueFd open_once_more(int fd) {
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  return base::UniqueFd(::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
}

}  // namespace

LossyOutput::LossyOutput(int fd) : fd_(fd), patience_(kPatience), owner_(::getpid()) {
  struct stat about{};
  if (::fstat(fd, &about) != 0) return;
  const bool terminal = S_ISCHR(about.st_mode) && ::isatty(fd) == 1;
  // a file opened once more would be written from its beginning
  if (S_ISFIFO(about.st_mode) || terminal) own_ = open_once_more(fd);
  socket_ = S_ISSOCK(about.st_mode);
  // poll(2) promises room for PIPE_BUF in a pipe, for something in a terminal
  piece_ = terminal ? 1 : PIPE_BUF;
}

LossyOutput::~LossyOutput() {
  if (::getpid() == owner_) static_cast<void>(catch_up());
}

bool LossyOutput::wait_for_room(base::Milliseconds at_most) {
  pollfd waiting{own_ ? own_.get() : fd_, POLLOUT, 0};
  return ::poll(&waiting, 1, static_cast<int>(at_most.count())) > 0;
}

ssize_t LossyOutput::put_once(std::string_view text) {
  if (own_) return ::write(own_.get(), text.data(), text.size());
  if (socket_) return ::send(fd_, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (wait_for_room(base::Milliseconds(0)))
    return ::write(fd_, text.data(), std::min(text.size(), piece_));
  errno = EAGAIN;
  return -1;
}

// As much as there is room for.
std::size_t LossyOutput::put(std::string_view text) {
  std::size_t done = 0;
  while (done < text.size() && !broken_) {
    const ssize_t count = put_once(text.substr(done));
    if (count > 0) {
      done += static_cast<std::size_t>(count);
    } else if (count < 0 && errno == EAGAIN) {
      break;
    } else if (count == 0 || errno != EINTR) {
      broken_ = true;
    }
  }
  return done;
}

// Begun is as good as shown: the rest follows when there is room.
bool LossyOutput::begin(std::string_view text) {
  const std::size_t done = put(text);
  rest_ = broken_ ? std::string_view() : text.substr(done);
  if (done > 0 || broken_) return true;
  rest_.clear();
  return false;
}

// What comes before the next line: the end of the last one, and how many are missing.
bool LossyOutput::catch_up() {
  if (!rest_.empty()) {
    rest_.erase(0, put(rest_));
    if (broken_) rest_.clear();
    if (!rest_.empty()) return false;
  }
  if (left_out_ == 0) return true;
  if (!begin("... " + std::to_string(left_out_) + (left_out_ == 1 ? " line" : " lines") +
             " not shown\n"))
    return false;
  left_out_ = 0;
  return rest_.empty();
}

void LossyOutput::line(std::string_view text) {
  if (broken_ || ::getpid() != owner_) return;
  if (catch_up() && begin(text)) return;
  if (patience_.count() > 0) {
    const std::int64_t before = base::monotonic_now_us();
    const bool room = wait_for_room(patience_);
    patience_ -= base::Milliseconds((base::monotonic_now_us() - before) / 1000 + 1);
    if (room && catch_up() && begin(text)) return;
  }
  ++left_out_;
}

bool LossyOutput::decoration(std::string_view text) {
  if (broken_ || ::getpid() != owner_) return false;
  return catch_up() && begin(text);
}

void LossyOutput::last_words(std::string_view text) {
  while (!broken_ && !catch_up()) static_cast<void>(wait_for_room(kForEver));
  while (!broken_ && !begin(text)) static_cast<void>(wait_for_room(kForEver));
  while (!broken_ && !catch_up()) static_cast<void>(wait_for_room(kForEver));
}

namespace {

class LossySink : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit LossySink(LossyOutput& output) : output_(output) {}

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t text;
    formatter_->format(message, text);
    output_.line(std::string_view(text.data(), text.size()));
  }
  void flush_() override {}

 private:
  LossyOutput& output_;
};

}  // namespace

spdlog::sink_ptr lossy_sink(LossyOutput& output) {
  return std::make_shared<LossySink>(output);
}

}  // namespace updagent::cli
