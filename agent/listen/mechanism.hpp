// Whether this machine can steer: found out by doing it once on the loopback interface.
#pragma once

#include <string>
#include <string_view>

namespace updagent::listen {

enum class Mechanism {
  steered,  // a socket per generation, the kernel's program chooses
  shared,   // one socket for all generations
};
std::string_view mechanism_name(Mechanism mechanism);  // as in `status` and `doctor`

struct MechanismFound {
  Mechanism mechanism = Mechanism::shared;
  std::string reason;  // why not steered; empty otherwise
};
// Loads the program, gives two generations a socket, has one chosen for a connection, and takes
// everything back by its ids. Leaves nothing behind. Some milliseconds, at most a second.
MechanismFound find_mechanism();

}  // namespace updagent::listen
