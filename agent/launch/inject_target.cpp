#include "agent/launch/inject_target.hpp"

#include <fcntl.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/failpoints.hpp"
#include "agent/base/files.hpp"
#include "agent/base/text.hpp"
#include "agent/base/unique_fd.hpp"
#include "agent/launch/inject_epoll.hpp"

namespace updagent::launch {
namespace {

using base::UniqueFd;

constexpr unsigned kPidfdThread = O_EXCL;  // PIDFD_THREAD, Linux 6.9
// What a server may have set with fcntl(2) or socket(2) on its own, and keeps.
constexpr int kCopiedFlags = O_NONBLOCK | O_APPEND;
constexpr std::size_t kMaxStatusFile = 64 * 1024;  // /proc/PID/status, fdinfo: about 2 KiB

std::string proc_of(pid_t thread, const std::string& name) {
  return "/proc/" + std::to_string(thread) + "/" + name;
}

// The number behind "\nNAME:\t" in one of proc's files.
std::optional<std::string_view> proc_field(std::string_view text, std::string_view name) {
  const std::size_t at = ("\n" + std::string(text)).find("\n" + std::string(name) + ":\t");
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view rest = text.substr(at + name.size() + 2);
  return rest.substr(0, rest.find('\n'));
}

// notif.pid is a thread's. Before Linux 6.9 pidfd_open(2) wants the process; its table of
// descriptors is the thread's too, but for the few programs that unshare(2) it.
UniqueFd open_process(pid_t thread) {
  UniqueFd own(static_cast<int>(::syscall(SYS_pidfd_open, thread, kPidfdThread)));
  if (own || errno != EINVAL) return own;
  const auto status = base::read_file(proc_of(thread, "status"), kMaxStatusFile);
  const auto group = status ? proc_field(*status, "Tgid") : std::nullopt;
  const auto process = group ? base::parse_u64(*group) : std::nullopt;
  if (!process) {
    errno = ESRCH;
    return {};
  }
  return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, static_cast<pid_t>(*process), 0U)));
}

UniqueFd copy_of(const UniqueFd& process, int fd) {
  return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), fd, 0U)));
}

bool read_option(int fd, int level, int option, void* value, socklen_t size) {
  return ::getsockopt(fd, level, option, value, &size) == 0;
}

// process_vm_readv(2) takes an address where the thread would: its fault is EFAULT for bind too.
Outcome read_address(const BindRequest& request, Look& look) {
  if (request.length < sizeof(sa_family_t) || request.length > sizeof look.address)
    return {Progress::invalid, TargetStep::read_address, EINVAL};
  look.address_length = static_cast<socklen_t>(request.length);
  const iovec here{&look.address, look.address_length};
  // NOLINTNEXTLINE(performance-no-int-to-ptr): an address in another process
  const iovec there{reinterpret_cast<void*>(request.address), look.address_length};
  const ssize_t got = ::process_vm_readv(request.thread, &here, 1, &there, 1, 0);
  if (got == static_cast<ssize_t>(request.length)) return {Progress::done, TargetStep::none, 0};
  if (got >= 0 || errno == EFAULT) return {Progress::invalid, TargetStep::read_address, EFAULT};
  return stopped(TargetStep::read_address, errno);
}

// The folder is opened as the thread sees it, and named as we see it: links are followed, and
// /var/run is /run.
void find_canonical_path(const BindRequest& request, Look& look) {
  const auto& un = reinterpret_cast<const sockaddr_un&>(look.address);
  constexpr std::size_t kOffset = offsetof(sockaddr_un, sun_path);
  if (look.address_length <= kOffset || un.sun_path[0] == '\0') return;
  const std::size_t room = std::min<std::size_t>(look.address_length - kOffset, sizeof un.sun_path);
  const std::string path(un.sun_path, ::strnlen(un.sun_path, room));
  const std::size_t slash = path.rfind('/');
  const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  const std::string folder = slash == std::string::npos ? "" : path.substr(0, slash + 1);
  const std::string view = path.starts_with('/') ? "root" : "cwd/";
  const UniqueFd opened(
      ::open(proc_of(request.thread, view + folder).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!opened) return;
  std::array<char, PATH_MAX>& out = look.canonical_path;
  const ssize_t length =
      ::readlink(("/proc/self/fd/" + std::to_string(opened.get())).c_str(), out.data(), out.size());
  if (length <= 0) return;
  auto end = static_cast<std::size_t>(length);
  if (end > 1 && end < out.size()) out[end++] = '/';
  if (end + name.size() >= out.size()) end = 0;
  const std::size_t copied = end == 0 ? 0 : name.copy(out.data() + end, name.size());
  out[end + copied] = '\0';
}

// FD_CLOEXEC is in the table of descriptors, which only proc shows.
bool is_close_on_exec(pid_t thread, int fd) {
  const auto info =
      base::read_file(proc_of(thread, "fdinfo/" + std::to_string(fd)), kMaxStatusFile);
  const auto flags = info ? proc_field(*info, "flags") : std::nullopt;
  if (!flags) return true;
  return (std::strtoul(std::string(*flags).c_str(), nullptr, 8) & O_CLOEXEC) != 0;
}

Outcome put_listener(int notify_fd, int listener_fd, const BindRequest& request,
                     bool close_on_exec) {
  seccomp_notif_addfd add{};
  add.id = request.id;
  add.flags = SECCOMP_ADDFD_FLAG_SETFD;
  add.srcfd = static_cast<std::uint32_t>(listener_fd);
  add.newfd = static_cast<std::uint32_t>(request.fd);
  add.newfd_flags = close_on_exec ? O_CLOEXEC : 0;
  if (::ioctl(notify_fd, SECCOMP_IOCTL_NOTIF_ADDFD, &add) < 0)
    return stopped(TargetStep::replace, errno);
  return {Progress::done, TargetStep::none, 0};
}

bool copy_flags(int from, int listener_fd, Replacement& replacement) {
  const int theirs = ::fcntl(from, F_GETFL);
  const int ours = ::fcntl(listener_fd, F_GETFL);
  if (theirs < 0 || ours < 0) return false;
  replacement.signals_lost = (theirs & O_ASYNC) != 0;
  return ::fcntl(listener_fd, F_SETFL, (ours & ~kCopiedFlags) | (theirs & kCopiedFlags)) == 0;
}

// What the socket has that its successor must get.
struct Found {
  OptionCopy options;
  EpollRegistrations epolls;
  bool close_on_exec = true;
};

bool find_all(const BindRequest& request, const UniqueFd& process, const UniqueFd& socket,
              Found& found) {
  struct stat status{};
  if (!found.options.read(socket.get()) || ::fstat(socket.get(), &status) != 0) return false;
  find_epolls(request.thread, process, request.fd, status.st_ino, found.epolls);
  for (EpollRegistration& each : found.epolls.list)
    each.epoll = clear_of(std::move(each.epoll), request.fd);
  found.close_on_exec = is_close_on_exec(request.thread, request.fd);
  return true;
}

bool answer(int notify_fd, std::uint64_t id, std::uint32_t flags) {
  seccomp_notif_resp response{};
  response.id = id;
  response.flags = flags;
  return ::ioctl(notify_fd, SECCOMP_IOCTL_NOTIF_SEND, &response) == 0;
}

}  // namespace

Outcome stopped(TargetStep step, int errno_value) {
  const bool dead = errno_value == ESRCH || errno_value == ENOENT;
  return {dead ? Progress::gone : Progress::failed, step, errno_value};
}

UniqueFd clear_of(UniqueFd opened, int number) {
  if (!opened || opened.get() != number) return opened;
  return UniqueFd(::fcntl(opened.get(), F_DUPFD_CLOEXEC, number + 1));
}

bool read_socket_facts(int fd, SocketFacts& facts) {
  if (!read_option(fd, SOL_SOCKET, SO_DOMAIN, &facts.domain, sizeof facts.domain) ||
      !read_option(fd, SOL_SOCKET, SO_TYPE, &facts.type, sizeof facts.type) ||
      !read_option(fd, SOL_SOCKET, SO_PROTOCOL, &facts.protocol, sizeof facts.protocol) ||
      !read_option(fd, SOL_SOCKET, SO_COOKIE, &facts.cookie, sizeof facts.cookie))
    return false;
  (void)read_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, &facts.v6only, sizeof facts.v6only);
  (void)read_option(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &facts.device, sizeof facts.device);
  (void)read_option(fd, SOL_SOCKET, SO_NETNS_COOKIE, &facts.network, sizeof facts.network);
  return true;
}

void look_at_bind(const BindRequest& request, Look& look) {
  const auto end = [&look](Outcome outcome) { look.outcome = outcome; };
  const UniqueFd process = open_process(request.thread);
  if (!process) return end(stopped(TargetStep::reach_process, errno));
  if (const Outcome read = read_address(request, look); read.progress != Progress::done)
    return end(read);
  const UniqueFd socket = copy_of(process, request.fd);
  if (!socket && errno == EBADF) return end({Progress::invalid, TargetStep::copy_socket, EBADF});
  if (!socket) return end(stopped(TargetStep::copy_socket, errno));
  if (!read_socket_facts(socket.get(), look.socket))
    return end({Progress::invalid, TargetStep::copy_socket, ENOTSOCK});
  if (look.socket.domain == AF_UNIX) find_canonical_path(request, look);
  end({Progress::done, TargetStep::none, 0});
}

void replace_socket(int notify_fd, int listener_fd, const BindRequest& request,
                    Replacement& replacement) {
  const auto end = [&replacement](Outcome outcome) { replacement.outcome = outcome; };
  const UniqueFd process = clear_of(open_process(request.thread), request.fd);
  if (!process) return end(stopped(TargetStep::reach_process, errno));
  UniqueFd socket = clear_of(copy_of(process, request.fd), request.fd);
  if (!socket) return end(stopped(TargetStep::copy_socket, errno));
  Found found;
  if (!find_all(request, process, socket, found))
    return end({Progress::failed, TargetStep::compare_options, errno});

  // All of that was the thread's if it still waits now: its pid can't have become another's.
  if (!request_is_valid(notify_fd, request.id)) return end({Progress::gone, TargetStep::none, 0});
  found.options.apply(listener_fd, replacement.options);
  if (!copy_flags(socket.get(), listener_fd, replacement))
    return end({Progress::failed, TargetStep::set_flags, errno});
  socket.reset();
  const Outcome put = put_listener(notify_fd, listener_fd, request, found.close_on_exec);
  if (put.progress != Progress::done) return end(put);
  base::failpoint::hit("inject.replaced");
  for (std::size_t i = 0; i < found.epolls.count; ++i)
    ++(register_as(found.epolls.list[i], request.fd, listener_fd) ? replacement.epolls_moved
                                                                  : replacement.epolls_lost);
  end({Progress::done, TargetStep::none, 0});
}

bool request_is_valid(int notify_fd, std::uint64_t id) {
  return ::ioctl(notify_fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0;
}

bool answer_done(int notify_fd, std::uint64_t id) {
  return answer(notify_fd, id, 0);
}

bool answer_continue(int notify_fd, std::uint64_t id) {
  return answer(notify_fd, id, SECCOMP_USER_NOTIF_FLAG_CONTINUE);
}

}  // namespace updagent::launch
