#include "fake_clone.hpp"

#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <limits>

namespace {

bool is_on = false;
int made = 0;
int failing_from = std::numeric_limits<int>::max();

int copy_whole(int into_fd, int from_fd) {
  if (made + 1 >= failing_from) {
    errno = EOPNOTSUPP;
    return -1;
  }
  ++made;
  struct stat about{};
  if (::fstat(from_fd, &about) != 0) return -1;
  off_t from = 0;
  off_t into = 0;
  while (from < about.st_size)
    if (::copy_file_range(from_fd, &from, into_fd, &into, static_cast<size_t>(about.st_size - from),
                          0) <= 0)
      return -1;
  return 0;
}

}  // namespace

// Takes the place of libc's in this program.
extern "C" int ioctl(int fd, unsigned long request, ...) noexcept {
  va_list arguments;
  va_start(arguments, request);
  const unsigned long argument = va_arg(arguments, unsigned long);
  va_end(arguments);
  if (is_on && request == FICLONE) return copy_whole(fd, static_cast<int>(argument));
  return static_cast<int>(::syscall(SYS_ioctl, fd, request, argument));
}

namespace updagent::store::testing {

FakeClone::FakeClone() {
  is_on = true;
  made = 0;
  failing_from = std::numeric_limits<int>::max();
}
FakeClone::~FakeClone() {
  is_on = false;
}
int FakeClone::clones() const {
  return made;
}
void FakeClone::fail_from(int number) {
  failing_from = made + number;
}

}  // namespace updagent::store::testing
