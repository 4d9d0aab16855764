#include "agent/launch/inject_epoll.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <memory>
#include <string>

#include "agent/base/text.hpp"

namespace updagent::launch {
namespace {

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};

bool is_epoll(int folder_fd, const char* name) {
  static constexpr std::string_view kEpoll = "anon_inode:[eventpoll]";
  std::array<char, kEpoll.size() + 1> target{};
  const ssize_t length = ::readlinkat(folder_fd, name, target.data(), target.size());
  return length > 0 && std::string_view(target.data(), static_cast<std::size_t>(length)) == kEpoll;
}

// proc_pid_fdinfo(5): "tfd:        8 events:       19 data:  deadbeef  pos:0 ino:2fdf96 sdev:9"
bool parse_registration(const char* line, int fd, ino_t inode, EpollRegistration& out) {
  int number = -1;
  std::uint64_t found_inode = 0;
  const int fields =
      std::sscanf(line, "tfd: %d events: %" SCNx32 " data: %" SCNx64 " pos:%*d ino:%" SCNx64,
                  &number, &out.events, &out.data, &found_inode);
  return fields == 4 && number == fd && found_inode == inode;
}

void read_registrations(pid_t thread, int epoll_number, const base::UniqueFd& process, int fd,
                        ino_t inode, EpollRegistrations& out) {
  const std::string path =
      "/proc/" + std::to_string(thread) + "/fdinfo/" + std::to_string(epoll_number);
  const std::unique_ptr<std::FILE, CloseFile> file(std::fopen(path.c_str(), "re"));
  std::array<char, 256> line{};
  for (int i = 0; file && i < kMaxEpollScan && out.count < out.list.size(); ++i) {
    if (std::fgets(line.data(), static_cast<int>(line.size()), file.get()) == nullptr) return;
    EpollRegistration& next = out.list[out.count];
    if (!parse_registration(line.data(), fd, inode, next)) continue;
    next.epoll_number = epoll_number;
    next.epoll.reset(static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), epoll_number, 0)));
    ++out.count;
  }
}

}  // namespace

void find_epolls(pid_t thread, const base::UniqueFd& process, int fd, ino_t inode,
                 EpollRegistrations& out) {
  const std::string path = "/proc/" + std::to_string(thread) + "/fd";
  const std::unique_ptr<DIR, CloseFolder> folder(::opendir(path.c_str()));
  for (int i = 0; folder && i < kMaxEpollScan; ++i) {
    const dirent* entry = ::readdir(folder.get());
    if (entry == nullptr) return;
    if (!is_epoll(::dirfd(folder.get()), entry->d_name)) continue;
    const auto number = base::parse_u64(entry->d_name);
    if (number) read_registrations(thread, static_cast<int>(*number), process, fd, inode, out);
  }
}

bool register_as(const EpollRegistration& registration, int fd, int listener) {
  epoll_event event{registration.events, {.u64 = registration.data}};
  const auto add = [&] {
    return ::epoll_ctl(registration.epoll.get(), EPOLL_CTL_ADD, fd, &event) == 0;
  };
  if (!registration.epoll) {
    errno = EPERM;
    return false;
  }
  if (fd == listener) return add();
  if (::fcntl(fd, F_GETFD) != -1) {
    errno = EBUSY;
    return false;
  }
  const base::UniqueFd under_their_number(::dup3(listener, fd, O_CLOEXEC));
  return under_their_number && add();
}

}  // namespace updagent::launch
