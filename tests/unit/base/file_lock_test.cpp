#include "agent/base/file_lock.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <thread>

#include "agent/base/files.hpp"
#include "tests/unit/base/test_directory.hpp"

namespace updagent::base {
namespace {

constexpr Milliseconds kPatience{30'000};

// Another process that holds the lock until it is killed.
class Holder {
 public:
  explicit Holder(const std::string& path) {
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    const UniqueFd reader(ends[0]);
    const UniqueFd writer(ends[1]);
    pid_ = ::fork();
    if (pid_ == 0) {
      const auto lock = FileLock::try_take(path);
      const bool taken = lock && lock->has_value();
      static_cast<void>(!::write(writer.get(), taken ? "y" : "n", 1));
      for (;;) ::pause();
    }
    char taken = 0;
    EXPECT_EQ(::read(reader.get(), &taken, 1), 1);
    EXPECT_EQ(taken, 'y');
  }
  ~Holder() { end(); }
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;
  void end() {
    if (pid_ < 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
};

class FileLocks : public ::testing::Test {
 protected:
  test::TestDirectory directory_;
  std::string path_ = directory_.path("lock");
};

TEST_F(FileLocks, It_is_exclusive_while_the_object_lives) {
  {
    const auto first = FileLock::try_take(path_);
    ASSERT_TRUE(first.has_value());
    ASSERT_TRUE(first->has_value());
    const auto second = FileLock::try_take(path_);
    ASSERT_TRUE(second.has_value());
    EXPECT_FALSE(second->has_value());
  }
  const auto third = FileLock::try_take(path_);
  ASSERT_TRUE(third.has_value());
  EXPECT_TRUE(third->has_value());
}

TEST_F(FileLocks, Another_process_that_holds_it_is_named) {
  const Holder holder(path_);
  const auto lock = FileLock::take(path_, Milliseconds(0), nullptr);
  ASSERT_FALSE(lock.has_value());
  EXPECT_EQ(lock.error().code(), Code::busy);
  EXPECT_EQ(lock.error().line(),
            "the lock '" + path_ + "' is held by process " + std::to_string(holder.pid()));
}

TEST_F(FileLocks, A_wait_ends_when_the_holder_dies) {
  Holder holder(path_);
  std::thread killer([&] { holder.end(); });
  const auto lock = FileLock::take(path_, kPatience, nullptr);
  killer.join();
  EXPECT_TRUE(lock.has_value()) << lock.error().line();
}

TEST_F(FileLocks, A_wait_ends_when_its_time_is_over) {
  const Holder holder(path_);
  const auto lock = FileLock::take(path_, Milliseconds(50), nullptr);
  ASSERT_FALSE(lock.has_value());
  EXPECT_EQ(lock.error().code(), Code::busy);
}

TEST_F(FileLocks, An_interrupt_ends_the_wait) {
  const Holder holder(path_);
  sigset_t before;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &before);
  {
    auto interrupt = Interrupt::install();
    ASSERT_TRUE(interrupt.has_value());
    ::kill(::getpid(), SIGTERM);
    const auto lock = FileLock::take(path_, kPatience, &*interrupt);
    ASSERT_FALSE(lock.has_value());
    EXPECT_EQ(lock.error().code(), Code::interrupted);
    interrupt->acknowledge();
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ::signal(SIGHUP, SIG_DFL);
  ::signal(SIGPIPE, SIG_DFL);
}

TEST_F(FileLocks, A_link_in_its_place_is_not_followed) {
  ASSERT_EQ(::symlink("/etc/passwd", path_.c_str()), 0);
  const auto lock = FileLock::try_take(path_);
  ASSERT_FALSE(lock.has_value());
  EXPECT_EQ(lock.error().code(), Code::io_error);
}

TEST_F(FileLocks, A_folder_that_is_missing_is_an_error) {
  const auto lock = FileLock::try_take(directory_.path("no/lock"));
  ASSERT_FALSE(lock.has_value());
  EXPECT_NE(lock.error().line().find("No such file or directory"), std::string::npos);
}

}  // namespace
}  // namespace updagent::base
