#include "agent/launch/output_bound.hpp"

#include <sched.h>
#include <sys/stat.h>

#include <sstream>

#include "agent/launch/output.hpp"
#include "tests/unit/launch/launch_support.hpp"

namespace updagent::launch {
namespace {

using test::TestDirectory;

// A folder on another file system than /tmp's: ext4 can shorten a file at its beginning, tmpfs can
// only punch a hole.
class SharedMemoryFolder {
 public:
  SharedMemoryFolder() : path_("/dev/shm/updagent-test-" + std::to_string(::getpid())) {
    std::error_code failed;
    std::filesystem::create_directory(path_, failed);
    usable_ = !failed;
  }
  ~SharedMemoryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  bool usable() const { return usable_; }
  std::string path(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
  bool usable_ = false;
};

base::UniqueFd open_log(const std::string& path) {
  return base::UniqueFd(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644));
}

std::uint64_t bytes_on_disk(const std::string& path) {
  struct stat about{};
  return ::stat(path.c_str(), &about) == 0 ? static_cast<std::uint64_t>(about.st_blocks) * 512 : 0;
}

const std::string kFiller(1000, 'x');

// Writes numbered lines as fast as it can, until it is stopped.
class Flood {
 public:
  explicit Flood(const std::string& path) : pid_(::fork()) {
    if (pid_ != 0) return;
    const base::UniqueFd log = open_log(path);
    // one string for ever: this process is to be fast
    std::string lines;
    for (std::uint64_t number = 0;;) {
      lines.clear();
      for (int i = 0; i < 64; ++i)
        lines.append(std::to_string(number++)).append(" ").append(kFiller).append("\n");
      if (::write(log.get(), lines.data(), lines.size()) != static_cast<ssize_t>(lines.size()))
        ::_exit(1);
    }
  }
  ~Flood() { stop(); }
  void stop() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  bool running() const { return ::waitpid(pid_, nullptr, WNOHANG) == 0; }

 private:
  pid_t pid_;
};

void serve_until(OutputBound& bound, const std::function<bool()>& done) {
  for (int i = 0; i < kPatienceMs && !done(); ++i)
    if (readable_within(bound.event_fd(), 1)) bound.on_event();
  EXPECT_TRUE(done());
}

// No timer runs any more: the next event would be a write.
bool is_quiet(const OutputBound& bound) {
  return !readable_within(bound.event_fd(), static_cast<int>(kLongestLook.count()) + 100);
}

void serve_until_quiet(OutputBound& bound) {
  bool quiet = false;
  for (int i = 0; i < 1000 && !quiet; ++i) {
    bound.on_event();
    quiet = is_quiet(bound);
  }
  EXPECT_TRUE(quiet);
}

// The lines that are left: each the next number of the one before, without a gap.
void expect_gapless_tail(const std::string& path) {
  // not from the beginning: what was punched out reads as gigabytes of zeros
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const auto size = static_cast<std::uint64_t>(file.tellg());
  std::string text(std::min(size, kMaxOutputBytes), '\0');
  file.seekg(static_cast<std::streamoff>(size - text.size()));
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.erase(0, std::min(text.find_first_not_of('\0'), text.size()));
  text.erase(0, text.find('\n') + 1);
  text.erase(text.rfind('\n') + 1);  // the kill may have cut the last write short
  std::istringstream lines(text);
  std::uint64_t expected = 0;
  std::uint64_t count = 0;
  for (std::string line; std::getline(lines, line); ++count, ++expected) {
    const std::uint64_t number = std::stoull(line);
    if (count == 0) expected = number;
    ASSERT_EQ(number, expected);
    ASSERT_TRUE(line.ends_with(" " + kFiller));
  }
  EXPECT_GT(count, 1000U);
}

void flood_is_bounded(const std::string& path) {
  auto bound = OutputBound::create();
  ASSERT_TRUE(bound.has_value()) << bound.error().line();
  open_log(path);
  ASSERT_TRUE(bound->add(path).has_value());
  Flood flood(path);
  serve_until(*bound, [&] { return bound->cuts() >= 3; });
  EXPECT_TRUE(flood.running());
  flood.stop();
  serve_until_quiet(*bound);
  EXPECT_LE(bytes_on_disk(path), kMaxOutputBytes);
  expect_gapless_tail(path);
}

TEST(OutputBound, A_flood_is_cut_at_its_beginning_and_what_is_kept_has_no_gap) {
  const TestDirectory directory;
  flood_is_bounded(directory.path("log"));
}

TEST(OutputBound, Where_the_file_can_t_be_made_shorter_its_space_is_given_back) {
  const SharedMemoryFolder folder;
  if (!folder.usable()) GTEST_SKIP() << "no /dev/shm";
  flood_is_bounded(folder.path("log"));
}

// A supervisor that is killed; its service goes on, and the next supervisor takes the file over.
TEST(OutputBound, The_output_is_intact_after_the_death_of_the_supervisor_and_bounded_again) {
  const TestDirectory directory;
  const std::string path = directory.path("log");
  open_log(path);
  const pid_t supervisor = ::fork();
  if (supervisor == 0) {
    auto bound = OutputBound::create();
    if (!bound || !bound->add(path)) ::_exit(1);
    for (;;)
      if (readable_within(bound->event_fd())) bound->on_event();
  }
  Flood flood(path);
  struct stat before{};
  ASSERT_TRUE(eventually([&] {
    struct stat now{};
    ::stat(path.c_str(), &now);
    return std::exchange(before, now).st_size > now.st_size;  // it has been cut
  }));
  ::kill(supervisor, SIGKILL);
  ::waitpid(supervisor, nullptr, 0);
  const std::uint64_t size = bytes_on_disk(path);
  ASSERT_TRUE(eventually([&] { return bytes_on_disk(path) > size + 2 * kMaxOutputBytes; }));
  EXPECT_TRUE(flood.running());

  auto successor = OutputBound::create();
  ASSERT_TRUE(successor.has_value());
  ASSERT_TRUE(successor->add(path).has_value());
  serve_until(*successor, [&] { return successor->cuts() >= 2; });
  flood.stop();
  serve_until_quiet(*successor);
  EXPECT_LE(bytes_on_disk(path), kMaxOutputBytes);
  expect_gapless_tail(path);
}

TEST(OutputBound, A_file_that_nobody_writes_to_wakes_nobody_up) {
  const TestDirectory directory;
  const base::UniqueFd log = open_log(directory.path("log"));
  auto bound = OutputBound::create();
  ASSERT_TRUE(bound.has_value());
  ASSERT_TRUE(bound->add(directory.path("log")).has_value());
  serve_until_quiet(*bound);
  ASSERT_EQ(::write(log.get(), "line\n", 5), 5);
  EXPECT_TRUE(readable_within(bound->event_fd()));
  serve_until_quiet(*bound);
}

TEST(OutputBound, A_chatty_service_is_looked_at_far_less_often_than_it_writes) {
  const TestDirectory directory;
  const base::UniqueFd log = open_log(directory.path("log"));
  auto bound = OutputBound::create();
  ASSERT_TRUE(bound.has_value());
  ASSERT_TRUE(bound->add(directory.path("log")).has_value());
  serve_until_quiet(*bound);
  const std::uint64_t before = bound->wake_ups();
  constexpr int kLines = 20'000;
  for (int i = 0; i < kLines; ++i) {
    ASSERT_EQ(::write(log.get(), "GET / 200\n", 10), 10);
    if (readable_within(bound->event_fd(), 0)) bound->on_event();
  }
  EXPECT_LT(bound->wake_ups() - before, kLines / 100);
  EXPECT_EQ(bound->cuts(), 0U);
}

TEST(OutputBound, Space_reserved_behind_the_end_is_given_back_too) {
  const TestDirectory directory;
  const std::string path = directory.path("log");
  const base::UniqueFd log = open_log(path);
  if (::fallocate(log.get(), FALLOC_FL_KEEP_SIZE, 0, 4 * kMaxOutputBytes) != 0)
    GTEST_SKIP() << "this file system can't reserve";
  auto bound = OutputBound::create();
  ASSERT_TRUE(bound.has_value());
  ASSERT_TRUE(bound->add(path).has_value());
  serve_until(*bound, [&] { return bound->cuts() >= 1; });
  EXPECT_LE(bytes_on_disk(path), kMaxOutputBytes);
}

TEST(OutputBound, A_file_that_was_removed_from_the_watch_is_left_alone) {
  const TestDirectory directory;
  const std::string path = directory.path("log");
  const base::UniqueFd log = open_log(path);
  auto bound = OutputBound::create();
  ASSERT_TRUE(bound.has_value());
  EXPECT_FALSE(bound->add(directory.path("none")).has_value());
  ASSERT_TRUE(bound->add(path).has_value());
  ASSERT_TRUE(bound->add(path).has_value());
  serve_until_quiet(*bound);
  bound->remove(path);
  bound->remove(path);
  serve_until_quiet(*bound);
  ASSERT_EQ(::write(log.get(), "line\n", 5), 5);
  EXPECT_TRUE(is_quiet(*bound));
}

// fs.inotify.max_user_instances is small; a user namespace has a limit of its own.
TEST(OutputBound, Without_inotify_the_timer_alone_bounds_the_file) {
  const TestDirectory directory;
  const std::string path = directory.path("log");
  open_log(path);
  const std::string said = said_in_child([&] {
    if (::unshare(CLONE_NEWUSER) != 0) return std::string("no user namespaces");
    std::ofstream("/proc/sys/user/max_inotify_instances") << 0 << std::flush;
    auto bound = OutputBound::create();
    if (!bound) return bound.error().line();
    if (!bound->add(path)) return std::string("not added");
    const base::UniqueFd log = open_log(path);
    const std::string block(1024 * 1024, 'x');
    for (int i = 0; i < 12; ++i) static_cast<void>(!::write(log.get(), block.data(), block.size()));
    for (int i = 0; i < 1000 && bound->cuts() == 0; ++i)
      if (readable_within(bound->event_fd())) bound->on_event();
    return std::string(bytes_on_disk(path) <= kMaxOutputBytes ? "bounded" : "not bounded");
  });
  if (said == "no user namespaces") GTEST_SKIP() << said;
  EXPECT_EQ(said, "bounded");
}

}  // namespace
}  // namespace updagent::launch
