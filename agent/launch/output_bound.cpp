#include "agent/launch/output_bound.hpp"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <optional>
#include <utility>

#include "agent/base/files.hpp"
#include "agent/base/unique_fd.hpp"
#include "agent/launch/aside.hpp"

namespace updagent::launch {
namespace {

constexpr std::int64_t kBlock = 64 * 1024;  // a multiple of every block size: ranges must be whole
constexpr int kNoWatch = -1;
constexpr base::Milliseconds kCutterDeath{1000};  // a killed process needs a moment, rarely more

// The last resort loses what was there; it is also for space that was reserved behind the file's
// end.
void cut(int fd, off_t length) {
  if (length > 0 && ::fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, length) == 0) return;
  if (length > 0 && ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, length) == 0)
    return;
  static_cast<void>(!::ftruncate(fd, 0));
}

struct OutputFile {
  std::string path;
  base::UniqueFd fd;
  int watch = kNoWatch;          // armed; else it is looked at by timer
  std::uint64_t seen_bytes = 0;  // on disk at the last look
  off_t seen_size = 0;
  std::int64_t looked_us = 0;
  base::Milliseconds next_look = kShortestLook;
};

struct Measure {
  std::uint64_t bytes = 0;  // on disk: holes don't count
  off_t size = 0;
};

Measure measure(const OutputFile& file) {
  struct stat about{};
  if (::fstat(file.fd.get(), &about) != 0) return {};
  constexpr std::uint64_t kSector = 512;  // of st_blocks
  return {static_cast<std::uint64_t>(about.st_blocks) * kSector, about.st_size};
}

// Half of the time in which it would be full if it grew on like this.
base::Milliseconds pause_for(const OutputFile& file, const Measure& now, std::int64_t now_us) {
  if (now.bytes < file.seen_bytes)
    return kShortestLook;  // it was cut: how fast it grows isn't known
  const std::uint64_t grown = now.bytes - file.seen_bytes;
  const std::uint64_t room = kMaxOutputBytes - std::min(now.bytes, kMaxOutputBytes);
  if (grown == 0) return kLongestLook;
  const auto span_ms =
      static_cast<std::uint64_t>(std::max<std::int64_t>((now_us - file.looked_us) / 1000, 1));
  const base::Milliseconds half_full(static_cast<std::int64_t>(room * span_ms / grown / 2));
  return std::clamp(half_full, kShortestLook, kLongestLook);
}

}  // namespace

struct OutputBound::State {
  base::UniqueFd inotify;
  base::UniqueFd timer;
  base::UniqueFd events;        // epoll over both and the cutter
  std::optional<Aside> cutter;  // at most one
  base::UniqueFd cut_file;      // what it cuts
  std::map<std::string, OutputFile> files;
  std::uint64_t cuts = 0;
  std::uint64_t wake_ups = 0;

  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State();

  base::Status watch(int fd);
  void take_watch_events();
  static void wake(OutputFile& file);
  void reap_cutter();
  void look_at_busy();
  void look(OutputFile& file);
  void arm(OutputFile& file);
  void start_cut(const OutputFile& file, off_t length);
  void set_timer();
};

// The cutter uses our table of descriptors: before its number is anybody else's it must be dead.
OutputBound::State::~State() {
  if (!cutter) return;
  cutter->kill();
  cutter->wait(static_cast<int>(kCutterDeath.count()));
}

base::Status OutputBound::State::watch(int fd) {
  epoll_event readable{};
  readable.events = EPOLLIN;
  if (::epoll_ctl(events.get(), EPOLL_CTL_ADD, fd, &readable) == 0) return base::ok();
  return base::system_error(errno, "cannot watch a descriptor");
}

// The watches fired once and are gone: from now on these files are busy.
void OutputBound::State::take_watch_events() {
  alignas(inotify_event) std::array<char, 16 * 1024> buffer{};
  for (;;) {
    const ssize_t count = ::read(inotify.get(), buffer.data(), buffer.size());
    if (count <= 0) return;
    for (ssize_t at = 0; at < count;) {
      const auto* event = reinterpret_cast<const inotify_event*>(buffer.data() + at);
      at += static_cast<ssize_t>(sizeof(inotify_event) + event->len);
      for (auto& [path, file] : files)
        if (file.watch == event->wd) wake(file);
    }
  }
}

// How fast it grows is seen at the next look.
void OutputBound::State::wake(OutputFile& file) {
  file.watch = kNoWatch;
  file.looked_us = base::monotonic_now_us();
  file.next_look = kShortestLook;
}

void OutputBound::State::reap_cutter() {
  if (!cutter || !cutter->ended()) return;
  // not by closing it alone: a process that was forked meanwhile may have a copy still
  ::epoll_ctl(events.get(), EPOLL_CTL_DEL, cutter->event_fd(), nullptr);
  cutter.reset();
  cut_file.reset();
  ++cuts;
}

void OutputBound::State::look_at_busy() {
  for (auto& [path, file] : files)
    if (file.watch == kNoWatch) look(file);
}

void OutputBound::State::look(OutputFile& file) {
  const std::int64_t now_us = base::monotonic_now_us();
  if (now_us - file.looked_us < file.next_look.count() * 1000) return;
  const Measure now = measure(file);
  const bool quiet =
      file.looked_us != 0 && now.bytes == file.seen_bytes && now.size == file.seen_size;
  file.next_look = pause_for(file, now, now_us);
  file.seen_bytes = now.bytes;
  file.seen_size = now.size;
  file.looked_us = now_us;
  if (now.bytes > kMaxOutputBytes) {
    const off_t keep = static_cast<off_t>(kKeptOutputBytes);
    start_cut(file, (now.size - keep) / kBlock * kBlock);
    file.next_look = kShortestLook;
  } else if (quiet) {
    arm(file);
  }
}

// Armed first and measured again: a write in between must not be missed.
void OutputBound::State::arm(OutputFile& file) {
  const std::string itself = "/proc/self/fd/" + std::to_string(file.fd.get());
  const int watch_id = ::inotify_add_watch(inotify.get(), itself.c_str(), IN_MODIFY | IN_ONESHOT);
  const Measure now = measure(file);
  const bool still_quiet = now.bytes == file.seen_bytes && now.size == file.seen_size;
  // without watches (a limit of the user) the timer goes on at its slowest
  if (watch_id >= 0 && still_quiet) file.watch = watch_id;
  file.next_look = watch_id >= 0 ? kShortestLook : kLongestLook;
}

void OutputBound::State::start_cut(const OutputFile& file, off_t length) {
  if (cutter) return;  // one at a time: the next look comes soon
  // a descriptor of its own: the file may be removed from here while it is being cut
  cut_file.reset(::fcntl(file.fd.get(), F_DUPFD_CLOEXEC, 0));
  auto started =
      Aside::start(Aside::Descriptors::shared, [fd = cut_file.get(), length] { cut(fd, length); });
  if (!started) return;  // out of processes: the next look tries again
  cutter.emplace(std::move(*started));
  static_cast<void>(watch(cutter->event_fd()));  // else the next look sees its end
}

// One timer for the busy files: the soonest look.
void OutputBound::State::set_timer() {
  const std::int64_t now_us = base::monotonic_now_us();
  std::int64_t soonest_us = 0;
  for (const auto& [path, file] : files) {
    if (file.watch != kNoWatch) continue;
    const std::int64_t left_us = file.looked_us + file.next_look.count() * 1000 - now_us;
    const std::int64_t wait_us = std::max<std::int64_t>(left_us, 1);
    soonest_us = soonest_us == 0 ? wait_us : std::min(soonest_us, wait_us);
  }
  itimerspec at{};  // zero disarms it
  at.it_value.tv_sec = soonest_us / 1'000'000;
  at.it_value.tv_nsec = soonest_us % 1'000'000 * 1000;
  ::timerfd_settime(timer.get(), 0, &at, nullptr);
}

OutputBound::OutputBound(std::unique_ptr<State> state) : state_(std::move(state)) {}
OutputBound::OutputBound(OutputBound&&) noexcept = default;
OutputBound& OutputBound::operator=(OutputBound&&) noexcept = default;
OutputBound::~OutputBound() = default;

base::Result<OutputBound> OutputBound::create() {
  auto state = std::make_unique<State>();
  state->inotify.reset(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  state->timer.reset(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  state->events.reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!state->timer || !state->events)
    return base::system_error(errno, "cannot make a timer and an epoll");
  UPD_TRY(state->watch(state->timer.get()));
  // without inotify (fs.inotify.max_user_instances) the timer alone does it
  if (state->inotify) UPD_TRY(state->watch(state->inotify.get()));
  return OutputBound(std::move(state));
}

base::Status OutputBound::add(const std::string& path) {
  if (state_->files.contains(path)) return base::ok();
  OutputFile file;
  file.path = path;
  UPD_ASSIGN(file.fd, base::open_path(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK));
  state_->look(state_->files.emplace(path, std::move(file)).first->second);
  state_->set_timer();
  return base::ok();
}

void OutputBound::remove(const std::string& path) {
  const auto found = state_->files.find(path);
  if (found == state_->files.end()) return;
  if (found->second.watch != kNoWatch)
    ::inotify_rm_watch(state_->inotify.get(), found->second.watch);
  state_->files.erase(found);
  state_->set_timer();
}

int OutputBound::event_fd() const {
  return state_->events.get();
}

void OutputBound::on_event() {
  ++state_->wake_ups;
  std::uint64_t expirations = 0;
  while (::read(state_->timer.get(), &expirations, sizeof expirations) > 0) {
  }
  if (state_->inotify) state_->take_watch_events();
  state_->reap_cutter();
  state_->look_at_busy();
  state_->set_timer();
}

std::uint64_t OutputBound::cuts() const {
  return state_->cuts;
}
std::uint64_t OutputBound::wake_ups() const {
  return state_->wake_ups;
}

}  // namespace updagent::launch
