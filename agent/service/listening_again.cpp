// A service may shut down the socket that it was given, on its way out for instance. We hold the
// socket, so it is still bound, and its next process can have it back.
#include <sys/socket.h>

#include <cerrno>

#include "agent/service/listener_set.hpp"

namespace updagent::service {
namespace {

using base::Status;
using listen::Transport;

bool is_listening(int fd) {
  int listens = 0;
  socklen_t size = sizeof listens;
  return ::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 || listens != 0;
}

}  // namespace

Status ListenerSet::listen_again(const Generation& generation) {
  for (std::size_t i = 0; i < generation.plan().sockets.size(); ++i) {
    Entry* entry = entry_of(generation, i);
    if (entry == nullptr || entry->spec.address.transport != Transport::tcp) continue;
    const int fd = generation.plan().sockets[i].fd.get();
    if (is_listening(fd)) continue;
    if (::listen(fd, entry->spec.backlog) != 0)
      return base::system_error(errno, "cannot listen again at " + entry->spec.address.text());
    if (entry->steered) UPD_TRY(put_back(*entry, generation.slot(), fd));
  }
  return base::ok();
}

Status ListenerSet::put_back(Entry& entry, listen::Slot slot, int fd) {
  UPD_ASSIGN(const bool has_program, entry.steered->attached());
  if (has_program) return entry.steered->add(slot, fd);
  return entry.steered->reattach(entry.spec, {{slot, fd}});
}

}  // namespace updagent::service
