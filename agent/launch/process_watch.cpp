#include "agent/launch/process_watch.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include <cerrno>
#include <utility>

#include "agent/base/clock.hpp"
#include "agent/base/files.hpp"
#include "agent/base/pidfd.hpp"
#include "agent/launch/proc_stat.hpp"

namespace updagent::launch {
namespace {

// A process that is not our child is reaped by init; how it ended is known a moment later.
constexpr base::Milliseconds kReapPatience{20};
constexpr std::size_t kMaxScoreBytes = 64;  // of a number
constexpr long kPidfsMagic = 0x50494446;    // PID_FS_MAGIC, linux/magic.h since 6.9

// struct pidfd_info and PIDFD_GET_INFO as of Linux 6.15, which keeps the exit code of any process
// for those who hold a pidfd. Older headers lack them, older kernels answer ENOTTY or EINVAL.
struct PidfdInfo {
  std::uint64_t mask;
  std::uint64_t cgroup_id;
  std::uint32_t ids[11];
  std::int32_t exit_code;
};
static_assert(sizeof(PidfdInfo) == 64, "PIDFD_INFO_SIZE_VER0 of linux/pidfd.h");
constexpr std::uint64_t kPidfdInfoExit = 1U << 3;

bool readable(int fd) {
  pollfd waiting{fd, POLLIN, 0};
  return ::poll(&waiting, 1, 0) > 0;
}

std::uint64_t pidfs_inode_of(int pidfd) {
  struct statfs file_system{};
  struct stat about{};
  const bool pidfs = ::fstatfs(pidfd, &file_system) == 0 && file_system.f_type == kPidfsMagic &&
                     ::fstat(pidfd, &about) == 0;
  return pidfs ? about.st_ino : 0;
}

base::Error gone(const ProcessIdentity& recorded, std::string found) {
  return base::Error(base::Code::not_found,
                     "the recorded process " + std::to_string(recorded.pid) + " is gone")
      .got(std::move(found));
}

ProcessEnd end_of_wait_status(int status) {
  ProcessEnd end;
  end.known = true;
  if (WIFEXITED(status)) end.exit_status = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) {
    end.signal_number = WTERMSIG(status);
    end.core_dumped = WCOREDUMP(status);
  }
  return end;
}

// Nothing: not our child.
std::optional<ProcessEnd> reap_child(int pidfd) {
  siginfo_t info{};
  while (::waitid(P_PIDFD, static_cast<id_t>(pidfd), &info, WEXITED | WNOHANG) != 0)
    if (errno != EINTR) return std::nullopt;
  if (info.si_pid == 0) return std::nullopt;
  ProcessEnd end;
  end.known = true;
  if (info.si_code == CLD_EXITED) {
    end.exit_status = info.si_status;
  } else {
    end.signal_number = info.si_status;
    end.core_dumped = info.si_code == CLD_DUMPED;
  }
  return end;
}

ProcessEnd end_of_stranger(int pidfd) {
  pollfd reaped{pidfd, 0, 0};  // POLLHUP: reaped
  ::poll(&reaped, 1, static_cast<int>(kReapPatience.count()));
  PidfdInfo info{};
  info.mask = kPidfdInfoExit;
  const unsigned long request = _IOWR(0xFF, 11, PidfdInfo);
  if (::ioctl(pidfd, request, &info) != 0 || (info.mask & kPidfdInfoExit) == 0) return {};
  return end_of_wait_status(info.exit_code);
}

}  // namespace

std::string ProcessEnd::describe() const {
  if (!known) return "gone; nobody kept how it ended";
  if (signal_number == 0) return "exit status " + std::to_string(exit_status);
  const char* name = ::sigabbrev_np(signal_number);
  return "killed by signal " + std::to_string(signal_number) +
         (name != nullptr ? " (" + std::string(name) + ")" : "") +
         (core_dumped ? ", core dumped" : "");
}

base::Result<ProcessIdentity> identify_process(pid_t pid, const base::UniqueFd& pidfd) {
  ProcessIdentity identity{pid, 0, base::boot_id(), pidfs_inode_of(pidfd.get())};
  const auto stat = read_proc_stat(pid);
  // the descriptor names one process for ever: while that one is unreaped, the stat was its own
  if (!stat || !base::signal_pidfd(pidfd, 0))
    return base::Error(base::Code::not_found,
                       "the process " + std::to_string(pid) + " is gone, or /proc is not mounted");
  identity.start_ticks = stat->start_ticks;
  return identity;
}

ProcessWatch::ProcessWatch(ProcessIdentity identity, base::UniqueFd pidfd)
    : identity_(std::move(identity)), pidfd_(std::move(pidfd)) {}

ProcessWatch ProcessWatch::own(ProcessIdentity identity, base::UniqueFd pidfd) {
  return {std::move(identity), std::move(pidfd)};
}

base::Result<ProcessWatch> ProcessWatch::adopt(const ProcessIdentity& recorded) {
  if (recorded.boot_id != base::boot_id())
    return gone(recorded, "a record of another boot (" + recorded.boot_id + ")");
  base::UniqueFd pidfd = base::open_pidfd(recorded.pid);
  if (!pidfd && errno != ESRCH)
    return base::system_error(errno, "cannot open a pidfd of " + std::to_string(recorded.pid));
  if (!pidfd) return gone(recorded, "no process of that pid");
  UPD_ASSIGN(ProcessIdentity found, identify_process(recorded.pid, pidfd));
  if (found.start_ticks != recorded.start_ticks)
    return gone(recorded, "a process of that pid which started at another time");
  if (recorded.pidfs_inode != 0 && found.pidfs_inode != recorded.pidfs_inode)
    return gone(recorded, "a process of that pid with another pidfs inode");
  return ProcessWatch(std::move(found), std::move(pidfd));
}

bool ProcessWatch::alive() const {
  return !readable(pidfd_.get());
}

std::optional<ProcessEnd> ProcessWatch::on_event() {
  if (!end_ && !alive()) {
    end_ = reap_child(pidfd_.get());
    if (!end_) end_ = end_of_stranger(pidfd_.get());
  }
  return end_;
}

base::Result<bool> ProcessWatch::send_signal(int signal_number) const {
  if (base::signal_pidfd(pidfd_, signal_number)) return true;
  if (errno == ESRCH) return false;
  return base::system_error(errno, "cannot send signal " + std::to_string(signal_number) +
                                       " to the process " + std::to_string(identity_.pid));
}

base::Result<bool> move_oom_score(pid_t pid, int from, int to,
                                  const std::function<bool(pid_t)>& is_ours) {
  const std::string path = "/proc/" + std::to_string(pid) + "/oom_score_adj";
  const base::UniqueFd file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!file && errno == ENOENT) return false;
  if (!file) return base::system_error(errno, "cannot open '" + path + "'");
  if (!is_ours(pid)) return false;
  const auto now = base::read_fd(file.get(), path, kMaxScoreBytes);
  if (!now || *now != std::to_string(from) + "\n") return false;
  const std::string text = std::to_string(to);
  if (::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()))
    return true;
  if (errno == ESRCH) return false;
  return base::system_error(errno, "cannot set '" + path + "' to " + text);
}

}  // namespace updagent::launch
