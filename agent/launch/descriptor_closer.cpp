#include "agent/launch/descriptor_closer.hpp"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>

namespace updagent::launch {
namespace {

// A close that doesn't hang takes microseconds; the aside must first get a processor.
constexpr int kPartingPatienceMs = 100;

}  // namespace

bool is_pipe(int fd) {
  return ::fcntl(fd, F_GETPIPE_SZ) >= 0;
}

bool is_plain_socket(int fd) {
  int domain = 0;
  socklen_t length = sizeof domain;
  if (::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) != 0) return false;
  return domain == AF_UNIX || domain == AF_INET || domain == AF_INET6;
}

DescriptorCloser::~DescriptorCloser() {
  if (aside_) (void)aside_->wait(kPartingPatienceMs);
  forget_aside();  // also when it hangs: the rest gets an aside of its own
  start();
  if (aside_) (void)aside_->wait(kPartingPatienceMs);
  // What could not even be handed over is closed with our own end.
  for (base::UniqueFd& left : waiting_) (void)left.release();
}

void DescriptorCloser::take(base::UniqueFd descriptor) {
  if (!descriptor || is_pipe(descriptor.get())) return;
  waiting_.push_back(std::move(descriptor));
}

void DescriptorCloser::start() {
  if (aside_ && aside_->ended()) forget_aside();
  if (aside_ || waiting_.empty()) return;
  auto started = Aside::start(Aside::Descriptors::shared, [this] {
    for (const base::UniqueFd& descriptor : waiting_) ::close(descriptor.get());
  });
  if (!started) return;  // out of processes: the next batch tries again
  aside_ = std::move(*started);
  // The numbers are the aside's from here on. Should it be killed, those it had not closed are lost
  // to us: to close them again could hit what has got the number since.
  for (base::UniqueFd& descriptor : waiting_) (void)descriptor.release();
  closing_ = std::exchange(waiting_, {}).size();
  epoll_event event{EPOLLIN, {.u64 = tag_}};
  (void)::epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, aside_->event_fd(), &event);
}

void DescriptorCloser::on_event() {
  start();
}

void DescriptorCloser::forget_aside() {
  if (!aside_) return;
  // Not left to the close: a process that was forked meanwhile can hold a copy until it execs.
  (void)::epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, aside_->event_fd(), nullptr);
  aside_.reset();
  closing_ = 0;
}

}  // namespace updagent::launch
