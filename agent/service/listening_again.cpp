// A service may shut down the socket that it was given, on its way out for instance. We hold the
// socket, so it is still bound: who comes waits in its queue, for this process or the next one.
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>

#include "agent/listen/unix_path.hpp"
#include "agent/service/listener_set.hpp"

namespace updagent::service {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::Status;
using listen::ListenerSpec;
using listen::Transport;

bool is_listening(int fd) {
  int listens = 0;
  socklen_t size = sizeof listens;
  return ::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 || listens != 0;
}

bool is_shut_down(int fd) {
  pollfd socket{fd, POLLRDHUP, 0};
  return ::poll(&socket, 1, 0) > 0 && (socket.revents & (POLLHUP | POLLRDHUP)) != 0;
}

}  // namespace

// listen(2) does not undo that for a unix socket: who comes is refused for as long as it is there.
Status ListenerSet::check_paths(const Generation& generation) const {
  for (std::size_t i = 0; i < generation.plan().sockets.size(); ++i) {
    const Entry* entry = entry_of(generation, i);
    if (entry == nullptr || entry->spec.address.transport != Transport::unix_path ||
        !is_shut_down(generation.plan().sockets[i].fd.get()))
      continue;
    return Error(Code::io_error, entry->spec.address.text() + " was shut down by the service")
        .hint("only its restart opens another one");
  }
  return base::ok();
}

Result<bool> ListenerSet::open_again(Generation& generation) {
  bool opened = false;
  for (std::size_t i = 0; i < generation.sockets().size(); ++i) {
    const Entry* entry = entry_of(generation, i);
    base::UniqueFd& fd = generation.sockets()[i].fd;
    if (entry == nullptr || entry->spec.address.transport != Transport::unix_path ||
        !is_shut_down(fd.get()))
      continue;
    UPD_ASSIGN(ListenerSpec spec,
               spec_of(generation.plan().run.service.listeners[i], generation.plan().run));
    spec.options = entry->spec.options;
    spec.nonblocking = entry->spec.nonblocking;
    UPD_TRY(listen::remove_path_socket(spec, generation.number()));
    UPD_ASSIGN(fd, listen::open_path_socket(spec, generation.number()));
    opened = true;
  }
  return opened;
}

Result<std::vector<std::string>> ListenerSet::listen_again(const Generation& generation) {
  std::vector<std::string> mended;
  for (std::size_t i = 0; i < generation.plan().sockets.size(); ++i) {
    Entry* entry = entry_of(generation, i);
    if (entry == nullptr || entry->spec.address.transport != Transport::tcp) continue;
    const int fd = generation.plan().sockets[i].fd.get();
    const bool listens = is_listening(fd);
    if (listens && is_in_place(*entry, generation.slot())) continue;
    if (!listens && ::listen(fd, entry->spec.backlog) != 0)
      return base::system_error(errno, "cannot listen again at " + entry->spec.address.text());
    // The group it was in may have ended with it, and the program with the group; that one exists
    // for some milliseconds yet, so nobody can ask whether the group of now has it.
    if (entry->steered) UPD_TRY(entry->steered->reattach(entry->spec, {{generation.slot(), fd}}));
    mended.push_back(entry->spec.address.text());
  }
  return mended;
}

// One that has listened again by itself is among the sockets of its address, and not in its slot.
bool ListenerSet::is_in_place(const Entry& entry, listen::Slot slot) {
  if (!entry.steered) return true;
  const auto cookie = entry.steered->cookie(slot);
  return !cookie || *cookie;  // what the kernel doesn't tell is no reason to act
}

}  // namespace updagent::service
