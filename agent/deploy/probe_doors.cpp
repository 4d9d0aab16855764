#include "agent/deploy/probe_doors.hpp"

#include <set>

namespace updagent::deploy {

base::Result<ProbeDoors> open_probe_doors(ServiceDriver& driver, std::uint64_t generation,
                                          health::Steer steer) {
  UPD_ASSIGN(const std::vector<ListensAt> listeners, driver.listens_at(generation));
  std::vector<health::ForwardTarget> targets;
  std::optional<std::size_t> first;
  for (const ListensAt& listener : listeners) {
    if (!can_be_asked(listener.address)) continue;
    if (!first && listener.address.transport == listen::Transport::tcp) first = targets.size();
    const listen::SocketAddress where =
        listen::to_sockaddr(listen::reachable_address(listener.address));
    targets.push_back({listener.name, where.storage, where.length, listener.proxy_protocol});
  }
  UPD_ASSIGN(health::Forwarder forwarder, health::Forwarder::open(targets, std::move(steer)));
  ProbeDoors doors{std::move(forwarder), {}};
  if (targets.empty()) return doors;
  doors.environment.push_back("UPDAGENT_PROBE_ADDRESS=" +
                              doors.forwarder.address(first.value_or(0)));
  std::set<std::string> told;  // "a-b" and "a.b" are one variable: the first one's
  for (std::size_t i = 0; i < targets.size(); ++i) {
    const std::string variable = probe_address_variable(targets[i].name);
    if (told.insert(variable).second)
      doors.environment.push_back(variable + "=" + doors.forwarder.address(i));
  }
  return doors;
}

}  // namespace updagent::deploy
