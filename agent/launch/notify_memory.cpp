#include "agent/launch/notify_memory.hpp"

#include <algorithm>
#include <string_view>
#include <utility>

#include "agent/base/pidfd.hpp"

namespace updagent::launch {
namespace {

// A turn of read(): the reader has other sockets and a supervisor that may come.
constexpr int kMaxReadsPerTurn = 32;

enum class Worth {
  nothing,     // nothing but WATCHDOG=1
  the_newest,  // nothing but STATUS, perhaps with it
  all,
};

Worth worth_of(const NotifyDatagram& datagram) {
  if (!datagram.descriptors.empty() || datagram.text_cut || datagram.control_cut) return Worth::all;
  Worth worth = Worth::nothing;
  std::string_view rest = datagram.text;
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    if (line.empty() || line == "WATCHDOG=1") continue;
    if (!line.starts_with("STATUS=")) return Worth::all;
    worth = Worth::the_newest;
  }
  return worth;
}

// Of the same sender only: nobody can push out what another one has said.
bool stands_for(const NotifyDatagram& newer, Worth worth, const NotifyDatagram& older) {
  if (newer.sender.pid != older.sender.pid || !newer.descriptors.empty() ||
      !older.descriptors.empty())
    return false;
  return newer.text == older.text ||
         (worth == Worth::the_newest && worth_of(older) == Worth::the_newest);
}

}  // namespace

void NotifyMemory::read(int socket_fd, DescriptorCloser& closer) {
  for (int i = 0; i < kMaxReadsPerTurn; ++i) {
    auto datagram = receive_notify(socket_fd);
    if (!datagram) return;
    remember(std::move(*datagram), closer);
  }
}

void NotifyMemory::remember(NotifyDatagram datagram, DescriptorCloser& closer) {
  const Worth worth = worth_of(datagram);
  if (worth == Worth::nothing) return;
  // Before Linux 6.5 none comes with it. Later its number may be another process's.
  if (!datagram.sender.pidfd && datagram.sender.pid > 0)
    datagram.sender.pidfd = base::open_pidfd(datagram.sender.pid);
  std::erase_if(messages_,
                [&](const NotifyDatagram& older) { return stands_for(datagram, worth, older); });
  messages_.push_back(std::move(datagram));
  while (messages_.size() > kMaxRemembered ||
         (messages_.size() > 1 && descriptors() > kMaxRememberedDescriptors))
    forget_oldest(closer);
}

void NotifyMemory::forget_oldest(DescriptorCloser& closer) {
  for (base::UniqueFd& descriptor : messages_.front().descriptors)
    closer.take(std::move(descriptor));
  messages_.pop_front();
}

void NotifyMemory::forget(DescriptorCloser& closer) {
  while (!messages_.empty()) forget_oldest(closer);
}

std::size_t NotifyMemory::descriptors() const {
  std::size_t count = 0;
  for (const NotifyDatagram& message : messages_) count += message.descriptors.size();
  return count;
}

}  // namespace updagent::launch
