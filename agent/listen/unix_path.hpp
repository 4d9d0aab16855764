// Listeners at a unix path. Each generation binds a path of its own beside the public one
// ("PATH.g7" for generation 7); the public name is a second link to the socket of the generation
// that serves, and is moved by rename(2): a client finds the one or the other, never nothing. So it
// is all or nothing here, a candidate can be tried at its own path before, and going back is the
// same step.
//
// What waits in an old generation's queue can't migrate: that one has to accept until it is empty.
// A server sees its own path in getsockname(2), not the public one; where the way to the folder is
// in the hands of others it is one through /proc, see socket_folder.hpp.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>

#include "agent/base/error.hpp"
#include "agent/base/unique_fd.hpp"
#include "agent/listen/listener.hpp"

namespace updagent::listen {

std::string generation_path(const ListenerSpec& spec, std::uint64_t generation);

// Bound and listening at the generation's own path. Its mode and owner are those of the spec before
// anybody may connect.
base::Result<base::UniqueFd> open_path_socket(const ListenerSpec& spec, std::uint64_t generation);

// A server may have removed the path of its generation: `fd`, its socket, has it again where the
// public name is that socket's. Without any name left it can't be reached again.
base::Status restore_path(const ListenerSpec& spec, std::uint64_t generation, int fd);

// The public name is this generation's from now on. Refused when something is there that is not
// ours: no socket, or one at which somebody listens. A dead socket is replaced.
base::Status publish(const ListenerSpec& spec, std::uint64_t generation);
// Whose the public name is; nothing when there is none, or it is none of ours.
base::Result<std::optional<std::uint64_t>> published_generation(const ListenerSpec& spec);

// The socket that is at the public name (an adopted server's) is this generation's from now on.
base::Status adopt_public_name(const ListenerSpec& spec, std::uint64_t generation);

// Takes the generation's path away, and the public name if it is still its own.
base::Status remove_path_socket(const ListenerSpec& spec, std::uint64_t generation);
// Takes away what generations that are gone left: those not in `alive` at whose path nobody
// listens.
base::Status sweep_path_sockets(const ListenerSpec& spec, const std::set<std::uint64_t>& alive);

}  // namespace updagent::listen
