// What the commands of a release get to ask one generation through: a door on 127.0.0.1 for each of
// its listeners, told in variables. docs/hooks.md has them.
#pragma once

#include <string>
#include <vector>

#include "agent/deploy/service_driver.hpp"
#include "agent/health/forwarder.hpp"

namespace updagent::deploy {

struct ProbeDoors {
  health::Forwarder forwarder;
  // "UPDAGENT_PROBE_ADDRESS=127.0.0.1:40123" (the first tcp listener's) and one for each listener.
  std::vector<std::string> environment;
};

// `steer` brings connections to `generation`, and outlives the doors with the driver that made it.
// No doors and no variables where it listens at nothing that one generation can be asked through.
base::Result<ProbeDoors> open_probe_doors(ServiceDriver& driver, std::uint64_t generation,
                                          health::Steer steer);

}  // namespace updagent::deploy
