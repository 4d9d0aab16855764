#include "agent/launch/start_child.hpp"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>

#include "agent/base/unique_fd.hpp"

namespace updagent::launch {
namespace {

constexpr int kFirstPassedFd = 3;
constexpr int kExitNotStarted = 127;  // as the shell says it; nobody reads it

class Starter {
 public:
  explicit Starter(const StartPlan& plan) : plan_(plan) {}

  [[noreturn]] void run() {
    join_cgroup();
    at(StartStep::new_session);
    if (::setsid() < 0) fail();
    reset_signals();
    place_descriptors();
    close_others();
    set_oom_score();
    set_limits();
    ::umask(plan_.umask);
    drop_bounding_set();
    change_identity();
    set_capabilities();
    leave_keyring();
    at(StartStep::no_new_privs);
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) fail();
    at(StartStep::working_directory);
    if (::chdir(plan_.working_directory) != 0) fail();
    write_pids();
    unblock_signals();
    install_guard();
    exec_first();
  }

 private:
  void at(StartStep step) { plan_.progress->step.store(step); }

  [[noreturn]] void fail(int detail = kNoDetail) { fail_with(errno, detail); }
  [[noreturn]] void fail_with(int errno_value, int detail) {
    plan_.progress->errno_value.store(errno_value);
    plan_.progress->detail.store(detail);
    plan_.progress->failed.store(true);
    ::_exit(kExitNotStarted);
  }

  void write_whole(int directory_fd, const char* path, const char* text) {
    const base::UniqueFd file(::openat(directory_fd, path, O_WRONLY | O_CLOEXEC));
    const std::size_t size = ::strlen(text);
    if (!file || ::write(file.get(), text, size) != static_cast<ssize_t>(size)) fail();
  }

  void join_cgroup() {
    at(StartStep::join_cgroup);
    if (plan_.cgroup_fd >= 0) write_whole(plan_.cgroup_fd, "cgroup.procs", "0");
  }

  // Handlers end with execve(2) anyway, but what we ignore would stay ignored.
  void reset_signals() {
    at(StartStep::signals);
    struct sigaction standard{};
    standard.sa_handler = SIG_DFL;
    for (int number = 1; number < NSIG; ++number) ::sigaction(number, &standard, nullptr);
  }

  void unblock_signals() {
    at(StartStep::signals);
    sigset_t none;
    ::sigemptyset(&none);
    if (::sigprocmask(SIG_SETMASK, &none, nullptr) != 0) fail();
  }

  int lifted(int fd, int above_fd, int target) {
    if (fd >= above_fd) return fd;
    const int copy_fd = ::fcntl(fd, F_DUPFD_CLOEXEC, above_fd);
    if (copy_fd < 0) fail(target);
    return copy_fd;
  }

  void place(int fd, int target) {
    if (::dup2(fd, target) < 0) fail(target);
  }

  // First everything above what will be used, so that no source is overwritten before its turn.
  // The channel comes right after the last one.
  void place_descriptors() {
    at(StartStep::descriptors);
    const int count = static_cast<int>(plan_.descriptor_count);
    channel_fd_ = kFirstPassedFd + count;
    const int above_fd = channel_fd_ + 1;
    const int stdin_fd = lifted(plan_.stdin_fd, above_fd, STDIN_FILENO);
    const int stdout_fd = lifted(plan_.stdout_fd, above_fd, STDOUT_FILENO);
    const int stderr_fd = lifted(plan_.stderr_fd, above_fd, STDERR_FILENO);
    const int high_channel_fd = lifted(plan_.channel_fd, above_fd, channel_fd_);
    for (int i = 0; i < count; ++i)
      plan_.descriptors[i] = lifted(plan_.descriptors[i], above_fd, kFirstPassedFd + i);

    place(stdin_fd, STDIN_FILENO);
    place(stdout_fd, STDOUT_FILENO);
    place(stderr_fd, STDERR_FILENO);
    for (int i = 0; i < count; ++i) place(plan_.descriptors[i], kFirstPassedFd + i);
    if (::dup3(high_channel_fd, channel_fd_, O_CLOEXEC) < 0) fail(channel_fd_);
  }

  void close_others() {
    at(StartStep::close_others);
    if (::close_range(static_cast<unsigned>(channel_fd_) + 1, ~0U, 0) != 0) fail();
  }

  void set_oom_score() {
    at(StartStep::oom_score);
    if (plan_.oom_score != nullptr)
      write_whole(AT_FDCWD, "/proc/self/oom_score_adj", plan_.oom_score);
  }

  void set_limits() {
    at(StartStep::limits);
    for (std::size_t i = 0; i < plan_.limit_count; ++i) {
      const StartLimit& limit = plan_.limits[i];
      const auto resource = static_cast<__rlimit_resource_t>(limit.resource);
      if (::setrlimit(resource, &limit.value) != 0) fail(limit.resource);
    }
  }

  void drop_bounding_set() {
    at(StartStep::bounding_set);
    if (!plan_.drop_bounding) return;
    for (int number = 0; number <= plan_.last_capability; ++number) {
      if ((plan_.bounding & capability_bit(number)) != 0) continue;
      if (::prctl(PR_CAPBSET_DROP, number, 0, 0, 0) != 0) fail(number);
    }
  }

  // Groups first, for only root may set them; the user last, for with it that power ends.
  void change_identity() {
    if (!plan_.change_identity) return;
    at(StartStep::groups);
    if (::setgroups(plan_.group_count, plan_.groups) != 0) fail();
    at(StartStep::gid);
    if (::setresgid(plan_.gid, plan_.gid, plan_.gid) != 0) fail();
    at(StartStep::uid);
    // what is kept is cut down to `permitted` right after
    if (plan_.permitted != kNoCapabilities && ::prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0) fail();
    if (::setresuid(plan_.uid, plan_.uid, plan_.uid) != 0) fail();
  }

  void set_capabilities() {
    at(StartStep::capabilities);
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> halves{};
    halves[0].permitted = static_cast<std::uint32_t>(plan_.permitted);
    halves[1].permitted = static_cast<std::uint32_t>(plan_.permitted >> 32);
    halves[0].inheritable = static_cast<std::uint32_t>(plan_.ambient);
    halves[1].inheritable = static_cast<std::uint32_t>(plan_.ambient >> 32);
    for (__user_cap_data_struct& half : halves) half.effective = half.permitted;
    if (::syscall(SYS_capset, &header, halves.data()) != 0) fail();
    // what was ambient before went with the inheritable set
    at(StartStep::ambient_set);
    for (int number = 0; number <= plan_.last_capability; ++number) {
      if ((plan_.ambient & capability_bit(number)) == 0) continue;
      if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0) != 0) fail(number);
    }
  }

  // Our session keyring could be read by whoever possesses it, and a child does. Kernels without
  // keys, and containers that forbid the call, have nothing to leave.
  static void leave_keyring() { ::syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, nullptr); }

  void write_pids() {
    for (std::size_t i = 0; i < plan_.pid_variable_count; ++i) {
      const PidVariable& variable = plan_.pid_variables[i];
      char* const value = variable.text + variable.value_at;
      *std::to_chars(value, value + kPidRoom - 1, ::getpid()).ptr = '\0';
    }
  }

  void install_guard() {
    at(StartStep::guard);
    if (plan_.guard == nullptr) return;
    const int answer = plan_.guard->install();
    if (answer < 0) fail();
    if (!plan_.guard->intercepts_bind()) return;
    const base::UniqueFd listener(answer);
    at(StartStep::send_listener);
    send_listener(listener.get());
  }

  void send_listener(int listener_fd) {
    char word = 'L';
    iovec text{&word, sizeof word};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &text;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* const rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    ::memcpy(CMSG_DATA(rights), &listener_fd, sizeof listener_fd);
    if (::sendmsg(channel_fd_, &message, MSG_NOSIGNAL) < 0) fail();
  }

  // As execvp(3): a candidate that is not there is passed over, one that may not be run is
  // remembered.
  [[noreturn]] void exec_first() {
    at(StartStep::exec);
    int worst_errno = ENOENT;
    int worst = kNoDetail;
    for (int i = 0; plan_.candidates[i] != nullptr; ++i) {
      // execve(2) changes neither list; its type is older than const
      ::execve(plan_.candidates[i], const_cast<char* const*>(plan_.argv),
               const_cast<char* const*>(plan_.environment));
      const int failed = errno;
      const bool absent =
          failed == ENOTDIR || (failed == ENOENT && ::access(plan_.candidates[i], F_OK) != 0);
      if (absent) continue;
      worst_errno = failed;
      worst = i;
      if (failed != EACCES) break;
    }
    fail_with(worst_errno, worst);
  }

  const StartPlan& plan_;
  int channel_fd_ = -1;
};

}  // namespace

void run_start(const StartPlan& plan) {
  Starter(plan).run();
}

}  // namespace updagent::launch
