#include "agent/base/detached_process.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

namespace updagent::base {
namespace {

std::vector<char*> pointers(const std::vector<std::string>& words) {
  std::vector<char*> list;
  list.reserve(words.size() + 1);
  for (const std::string& word : words) list.push_back(const_cast<char*>(word.c_str()));
  list.push_back(nullptr);
  return list;
}

[[noreturn]] void become(const std::vector<char*>& argv, const std::vector<char*>& environment) {
  ::setsid();
  ::umask(022);
  if (!leave_standard_streams()) ::_exit(127);
  ::close_range(3, ~0U, 0);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  for (int number = 1; number < NSIG; ++number) ::signal(number, SIG_DFL);
  static_cast<void>(!::chdir("/"));
  ::execve(argv[0], argv.data(), environment.data());
  ::_exit(127);
}

}  // namespace

bool leave_standard_streams() {
  const int null_fd = ::open("/dev/null", O_RDWR);
  if (null_fd < 0) return false;
  for (int standard = 0; standard <= 2; ++standard) ::dup2(null_fd, standard);
  if (null_fd > 2) ::close(null_fd);
  return true;
}

Status start_detached(const std::vector<std::string>& argv,
                      const std::vector<std::string>& environment,
                      const std::function<void()>& in_child) {
  const std::vector<char*> words = pointers(argv);
  const std::vector<char*> variables = pointers(environment);
  const pid_t middle = ::fork();
  if (middle < 0) return system_error(errno, "cannot fork '" + argv.front() + "'");
  if (middle == 0) {
    const pid_t child = ::fork();
    if (child == 0) {
      if (in_child) in_child();
      become(words, variables);
    }
    ::_exit(child < 0 ? 1 : 0);
  }
  int status = 0;
  while (::waitpid(middle, &status, 0) < 0 && errno == EINTR) {
  }
  if (status == 0) return ok();
  return Error(Code::io_error, "cannot fork '" + argv.front() + "'");
}

}  // namespace updagent::base
