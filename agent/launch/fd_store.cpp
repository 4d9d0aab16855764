#include "agent/launch/fd_store.hpp"

#include <fcntl.h>
#include <linux/kcmp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>
#include <utility>

#include "agent/launch/notify_message.hpp"

namespace updagent::launch {
namespace {

using base::Result;
using base::UniqueFd;

constexpr std::uint64_t kCloserOfStoreTag = std::numeric_limits<std::uint64_t>::max();
constexpr int kQuerySameFile = 1024 + 3;  // F_DUPFD_QUERY, Linux 6.10

std::uint64_t socket_cookie(int fd) {
  std::uint64_t cookie = 0;
  socklen_t length = sizeof cookie;
  return ::getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length) == 0 ? cookie : 0;
}

// Two descriptors of one open file. Not by st_dev and st_ino: fstat(2) asks the file's server, and
// two opens of one file are not the same. Where the kernel can't tell, only sockets are known.
bool same_open_file(int one, int other) {
  const int answer = ::fcntl(one, kQuerySameFile, other);
  if (answer >= 0) return answer == 1;
  const long order = ::syscall(SYS_kcmp, ::getpid(), ::getpid(), KCMP_FILE, one, other);
  if (order >= 0) return order == 0;
  const std::uint64_t cookie = socket_cookie(one);
  return cookie != 0 && cookie == socket_cookie(other);
}

}  // namespace

Result<std::unique_ptr<FdStore>> FdStore::create(std::vector<std::string> listener_names) {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return base::system_error(errno, "cannot watch the stored descriptors");
  return std::unique_ptr<FdStore>(new FdStore(std::move(epoll), std::move(listener_names)));
}

FdStore::FdStore(UniqueFd epoll, std::vector<std::string> listener_names)
    : epoll_(std::move(epoll)),
      listener_names_(std::move(listener_names)),
      closer_(epoll_.get(), kCloserOfStoreTag) {}

FdStore::~FdStore() {
  for (StoredDescriptor& entry : release_all()) closer_.take(std::move(entry.descriptor));
}

bool FdStore::is_listener_name(std::string_view name) const {
  return std::ranges::find(listener_names_, name) != listener_names_.end();
}

bool FdStore::holds(int fd) const {
  return std::ranges::any_of(entries_, [fd](const StoredDescriptor& entry) {
    return same_open_file(entry.descriptor.get(), fd);
  });
}

// No events are asked for: EPOLLHUP and EPOLLERR always come.
void FdStore::watch(int fd) {
  if (!is_pipe(fd) && !is_plain_socket(fd)) return;
  epoll_event event{0, {.u64 = static_cast<std::uint64_t>(fd)}};
  (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event);
}

// Before each close: the service holds the same open file, which would keep the registration alive
// and wake us for ever.
void FdStore::unwatch(int fd) {
  (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

Stored FdStore::add(std::string name, UniqueFd& descriptor, bool watched) {
  if (name.empty()) name = kDefaultStoreName;
  if (!is_store_name(name) || is_listener_name(name)) return Stored::refused_name;
  if (holds(descriptor.get())) return Stored::already;
  if (entries_.size() >= kMaxStored || closer_.waiting() >= kMaxStored) return Stored::refused_full;
  if (watched) watch(descriptor.get());
  entries_.push_back({std::move(name), std::move(descriptor), watched, next_id_++});
  return Stored::stored;
}

template <class Condition>
std::size_t FdStore::drop_if(Condition condition) {
  std::vector<StoredDescriptor> kept;
  for (StoredDescriptor& entry : entries_) {
    if (!condition(entry)) {
      kept.push_back(std::move(entry));
      continue;
    }
    unwatch(entry.descriptor.get());
    closer_.take(std::move(entry.descriptor));
  }
  const std::size_t dropped = entries_.size() - kept.size();
  entries_ = std::move(kept);
  closer_.start();
  return dropped;
}

std::size_t FdStore::remove(std::string_view name) {
  return drop_if([name](const StoredDescriptor& entry) { return entry.name == name; });
}

std::vector<std::string> FdStore::on_event() {
  std::array<epoll_event, kMaxStored + 1> events{};
  const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), 0);
  std::vector<std::string> names;
  for (int i = 0; i < count; ++i) {
    const std::uint64_t tag = events[static_cast<std::size_t>(i)].data.u64;
    drop_if([&](const StoredDescriptor& entry) {
      if (static_cast<std::uint64_t>(entry.descriptor.get()) != tag) return false;
      names.push_back(entry.name);
      return true;
    });
  }
  closer_.on_event();
  return names;
}

Result<std::unique_ptr<FdStore>> FdStore::copy_for(std::vector<std::string> listener_names) const {
  UPD_ASSIGN(std::unique_ptr<FdStore> copy, create(std::move(listener_names)));
  for (const StoredDescriptor& entry : entries_) {
    UniqueFd duplicate(::fcntl(entry.descriptor.get(), F_DUPFD_CLOEXEC, 0));
    if (!duplicate)
      return base::system_error(errno, "cannot copy the stored descriptor '" + entry.name + "'");
    (void)copy->add(entry.name, duplicate, entry.watched);
  }
  return copy;
}

std::vector<StoredDescriptor> FdStore::release_all() {
  for (const StoredDescriptor& entry : entries_) unwatch(entry.descriptor.get());
  return std::exchange(entries_, {});
}

}  // namespace updagent::launch
