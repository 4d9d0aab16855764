// Who else has a socket at the app's addresses. Where we steer, the kernel keeps others from
// binding after us and before; in the shared mechanism nobody does, and connections would be split
// in silence.
#include "agent/service/listener_set.hpp"

namespace updagent::service {

using base::Code;
using base::Error;
using base::Status;

// Another address of this app may overlap.
listen::InodeSet ListenerSet::shared_inodes() const {
  listen::InodeSet own;
  for (const auto& [key, entry] : entries_)
    if (entry.shared)
      if (const auto inode = listen::inode_of(entry.shared.get())) own.add(*inode);
  return own;
}

std::vector<listen::PortHolder> ListenerSet::strangers(const listen::InodeSet& own) const {
  std::vector<listen::PortHolder> found;
  for (const auto& [key, entry] : entries_) {
    if (!entry.spec.address.is_inet()) continue;
    auto holders = listen::strangers_at(entry.spec.address, own);
    if (!holders) continue;
    for (listen::PortHolder& one : *holders)
      if (listen::in_group_of(one, entry.spec.address)) found.push_back(std::move(one));
  }
  return found;
}

Status ListenerSet::check_own_sockets(const Generation& generation,
                                      const listen::InodeSet& given) const {
  std::vector<listen::PortHolder> beside = strangers(given);
  if (beside.empty()) return base::ok();
  listen::InodeSet held;
  for (const pid_t pid : generation.processes())
    static_cast<void>(held.add_process(pid));  // one that has just ended has none
  std::erase_if(beside, [&](const listen::PortHolder& holder) { return !held.has(holder.inode); });
  if (beside.empty()) return base::ok();
  return Error(Code::probe_failed, "the service listens with sockets of its own, too")
      .expected("only the sockets that it was given; nginx: 'listen' without 'reuseport'")
      .got(listen::describe(beside));
}

}  // namespace updagent::service
