// probe-connect: stdin and stdout as a connection to one version of a service.
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>

#include "agent/base/one_way.hpp"
#include "agent/deploy/probe_connection.hpp"
#include "cli/session.hpp"
#include "cli/verbs.hpp"

namespace updagent::cli {
namespace {

using base::Exit;
using base::OneWay;

// POLLOUT promises no more of a pipe, and a write that waits would hold up the other way.
constexpr std::size_t kAtOnce = 4096;

class StdioRelay {
 public:
  explicit StdioRelay(deploy::ProbeConnection connection) : connection_(std::move(connection)) {
    up_.put(connection_.first);
  }

  base::Status run() {
    while (!up_ended_ || !down_.over()) UPD_TRY(step());
    return base::ok();
  }

 private:
  int peer() const { return connection_.fd.get(); }

  base::Status step() {
    const auto want = [](bool wish, short event) { return static_cast<short>(wish ? event : 0); };
    std::array<pollfd, 3> waiting{{
        {up_.wants_input() ? STDIN_FILENO : -1, POLLIN, 0},
        {peer(),
         static_cast<short>(want(down_.wants_input(), POLLIN) | want(up_.wants_output(), POLLOUT)),
         0},
        {down_.wants_output() ? STDOUT_FILENO : -1, POLLOUT, 0},
    }};
    // the end of the peer would be told for ever
    if (waiting[1].events == 0) waiting[1].fd = -1;
    if (::poll(waiting.data(), waiting.size(), -1) < 0 && errno != EINTR)
      return base::system_error(errno, "cannot wait for the connection");
    constexpr short kInput = POLLIN | POLLHUP | POLLERR | POLLNVAL;
    if ((waiting[0].revents & kInput) != 0) UPD_TRY(up_.take(STDIN_FILENO));
    if ((waiting[1].revents & kInput) != 0 && down_.wants_input()) UPD_TRY(down_.take(peer()));
    if ((waiting[1].revents & POLLOUT) != 0) UPD_TRY(up_.give(peer(), kAtOnce));
    if (waiting[2].revents != 0) UPD_TRY(down_.give(STDOUT_FILENO, kAtOnce));
    if (up_.over() && !std::exchange(up_ended_, true)) ::shutdown(peer(), SHUT_WR);
    return base::ok();
  }

  deploy::ProbeConnection connection_;
  OneWay up_;
  OneWay down_;
  bool up_ended_ = false;
};

Exit run_probe_connect(Session& session, const std::string& app, const std::string& version,
                       const std::string& listener) {
  auto connection = deploy::connect_to_version(session.layout(), app, version, listener);
  if (!connection) return session.fail(connection.error());
  session.note("connected to generation " + std::to_string(connection->generation) + " of " + app +
               ", " + version);
  const base::Status done = StdioRelay(std::move(*connection)).run();
  return done ? Exit::done : session.fail(done.error());
}

}  // namespace

Run setup_probe_connect(CLI::App& command) {
  struct Options {
    std::string app;
    std::string version;
    std::string listener;
  };
  const auto options = std::make_shared<Options>();
  command.add_option("APP", options->app, "the app")->required();
  command.add_option("VERSION", options->version, "of a generation that lives")->required();
  command.add_option("--listener", options->listener,
                     "its name; without this the first that can be asked");
  return [options](Session& session) {
    return run_probe_connect(session, options->app, options->version, options->listener);
  };
}

}  // namespace updagent::cli
