#include "agent/health/served_command.hpp"

#include <poll.h>

#include <cerrno>

namespace updagent::health {
namespace {

constexpr base::Milliseconds kServedTick{500};

class ServedCommand {
 public:
  ServedCommand(base::ChildProcess child, const ProbeContext& context)
      : child_(std::move(child)), context_(context) {
    const auto add = [this](int fd) { polled_.push_back({fd, POLLIN, 0}); };
    add(child_.event_fd());
    // poll(2) leaves a negative one out
    add(context.interrupt != nullptr ? context.interrupt->fd() : -1);
    for (const Served& other : context.served) add(other.fd);
  }

  base::Result<base::ChildResult> run() {
    for (;;) {
      UPD_ASSIGN(const bool ended, child_.on_event());
      if (ended) return child_.take_result();
      if (polled_[1].fd >= 0 && context_.interrupt->requested()) {
        polled_[1].fd = -1;  // readable from now on: only the end of the tree is waited for
        child_.kill_tree();
        continue;
      }
      UPD_TRY(wait());
    }
  }

 private:
  base::Status wait() {
    const int ready = ::poll(polled_.data(), polled_.size(), static_cast<int>(kServedTick.count()));
    if (ready < 0 && errno != EINTR) return base::system_error(errno, "cannot wait for a command");
    for (std::size_t i = 0; ready > 0 && i < context_.served.size(); ++i)
      if (polled_[i + 2].revents != 0) context_.served[i].on_event();
    if (!context_.on_tick || !tick_.passed()) return base::ok();
    tick_ = base::Deadline::in(kServedTick);
    return context_.on_tick();
  }

  base::ChildProcess child_;
  const ProbeContext& context_;
  std::vector<pollfd> polled_;
  base::Deadline tick_ = base::Deadline::in(kServedTick);
};

}  // namespace

base::Result<base::ChildResult> run_served(const base::ChildSpec& spec,
                                           const ProbeContext& context) {
  UPD_ASSIGN(base::ChildProcess child, base::ChildProcess::start(spec));
  return ServedCommand(std::move(child), context).run();
}

}  // namespace updagent::health
