// The steering program (steer.bpf.c) and its way into the kernel.
#pragma once

#include <span>

#include "agent/base/error.hpp"
#include "agent/base/unique_fd.hpp"
#include "agent/listen/bpf_maps.hpp"

namespace updagent::listen {

// What the three maps of the program look like, whoever creates them.
MapShape policy_shape();
MapShape slots_shape();
MapShape counters_shape();

struct SteerMaps {
  int policy_fd = -1;
  int slots_fd = -1;
  int counters_fd = -1;
};
// One copy of the program that reads and counts in these maps. Where the kernel refuses it, the
// error has the last lines of what it said.
base::Result<base::UniqueFd> load_steer_program(const SteerMaps& maps);

// To the group that the socket is in, or will found when it is bound.
base::Status attach_steer_program(int socket_fd, int program_fd);

// The compiled object, from the build.
std::span<const unsigned char> steer_object();

}  // namespace updagent::listen
