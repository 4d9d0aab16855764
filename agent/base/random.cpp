#include "agent/base/random.hpp"

#include <sys/random.h>

#include <cerrno>
#include <cstdlib>

namespace updagent::base {

std::string random_bytes(std::size_t count) {
  std::string out(count, '\0');
  std::size_t filled = 0;
  while (filled < count) {
    const ssize_t got = ::getrandom(out.data() + filled, count - filled, 0);
    if (got < 0 && errno != EINTR) std::abort();  // no entropy source: nothing can be trusted
    if (got > 0) filled += static_cast<std::size_t>(got);
  }
  return out;
}

}  // namespace updagent::base
