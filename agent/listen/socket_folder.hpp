// The folder of a unix path, found step by step: root is about to bind, to name and to give away
// what is in it, and part of the way may be in the hands of a service's user. A link is followed
// only where nobody but root and ourselves could have put it.
#pragma once

#include <string>

#include "agent/base/error.hpp"
#include "agent/base/unique_fd.hpp"

namespace updagent::listen {

struct SocketFolder {
  base::UniqueFd fd;  // O_PATH
  // Nobody but root and ourselves can make the same path lead to another folder.
  bool fixed = true;
};

// `path` is absolute. Code::privilege when it leads through a link that others may have made.
base::Result<SocketFolder> open_socket_folder(const std::string& path);

}  // namespace updagent::listen
