#include "agent/deploy/driver_lock.hpp"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>

#include "agent/base/files.hpp"

namespace updagent::deploy {

base::Result<base::FileLock> take_driver_lock(const config::Layout& layout, const std::string& app,
                                              base::Milliseconds wait, base::Interrupt* interrupt) {
  auto lock = base::FileLock::take(layout.driver_lock(app), wait, interrupt);
  if (lock || lock.error().code() != base::Code::busy) return lock;
  return std::move(lock)
      .error()
      .with_context("a deployment or another order of '" + app + "' is under way")
      .hint("updagent status " + app +
            " shows it; wait for its end (apply, rollback and recover: --wait DURATION)");
}

bool is_driven(const config::Layout& layout, const std::string& app) {
  const auto fd = base::open_path(layout.driver_lock(app), O_RDONLY);
  if (!fd) return false;
  // a shared lock conflicts with the driver's and leaves nothing behind
  if (::flock(fd->get(), LOCK_SH | LOCK_NB) == 0) return false;
  return errno == EWOULDBLOCK;
}

}  // namespace updagent::deploy
