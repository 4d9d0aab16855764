#include "agent/deploy/driver_lock.hpp"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>

#include "agent/base/files.hpp"

namespace updagent::deploy {

bool is_driven(const config::Layout& layout, const std::string& app) {
  const auto fd = base::open_path(layout.driver_lock(app), O_RDONLY);
  if (!fd) return false;
  // a shared lock conflicts with the driver's and leaves nothing behind
  if (::flock(fd->get(), LOCK_SH | LOCK_NB) == 0) return false;
  return errno == EWOULDBLOCK;
}

}  // namespace updagent::deploy
