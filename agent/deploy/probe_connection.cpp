#include "agent/deploy/probe_connection.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <set>

#include "agent/base/text.hpp"
#include "agent/deploy/probe_source.hpp"
#include "agent/deploy/production.hpp"
#include "agent/deploy/supervise.hpp"
#include "agent/health/forwarder.hpp"

namespace updagent::deploy {
namespace {

using base::Code;
using base::Error;
using base::Json;
using base::Result;
using base::Status;

bool lives(const Json& generation) {
  const std::string state = generation.value("state", std::string());
  return state == "starting" || state == "ready" || state == "stopping";
}

Result<Json> newest_of(const Json& status, const std::string& app, const std::string& version) {
  Json newest;
  std::uint64_t number = 0;
  std::set<std::string> versions;
  for (const Json& one : status.value("generations", Json::array())) {
    if (!lives(one)) continue;
    versions.insert(one.value("version", std::string()));
    const auto candidate = one.value("number", std::uint64_t{0});
    if (one.value("version", std::string()) != version || candidate < number) continue;
    number = candidate;
    newest = one;
  }
  if (number != 0) return newest;
  return Error(Code::not_found, "no generation of '" + app + "' " + version + " lives")
      .expected(versions.empty() ? "one that runs"
                                 : "one of " + base::join(std::vector<std::string>(versions.begin(),
                                                                                   versions.end()),
                                                          ", "))
      .got(version);
}

Result<ListensAt> listener_of(const Json& generation, const std::string& wanted) {
  UPD_ASSIGN(const std::vector<ListensAt> listeners, listens_at_from(generation));
  std::vector<std::string> names;
  for (const ListensAt& listener : listeners) {
    if (!can_be_asked(listener.address)) continue;
    if (wanted.empty() || listener.name == wanted) return listener;
    names.push_back(listener.name);
  }
  return Error(Code::not_found, "there is no such listener that one version can be asked at")
      .expected(names.empty() ? "one at tcp: or at a unix path" : base::join(names, ", "))
      .got(wanted.empty() ? "none" : wanted);
}

Status wait_connected(int fd) {
  pollfd waiting{fd, POLLOUT, 0};
  const int ready = ::poll(&waiting, 1, static_cast<int>(kProbeConnectPatience.count()));
  if (ready == 0)
    return Error(Code::timed_out,
                 "no connection within " + base::format_duration(kProbeConnectPatience));
  int code = 0;
  socklen_t length = sizeof code;
  if (ready < 0 || ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &length) != 0) code = errno;
  return code == 0 ? base::ok() : base::system_error(code, "cannot connect");
}

// Until the kernel has chosen; then the entry is free for others.
Status connect_steered(service::Client& client, int fd, std::uint64_t generation,
                       const listen::SocketAddress& to) {
  std::uint64_t entry = 0;
  const bool steered = to.storage.ss_family != AF_UNIX;
  if (steered) {
    UPD_TRY(bind_source(fd, to.get()));
    UPD_ASSIGN(const listen::Address source, address_of(fd, ::getsockname));
    UPD_ASSIGN(const Json answer,
               client.ask("probe", {{"generation", generation}, {"source", source.text()}}));
    entry = answer.value("entry", std::uint64_t{0});
  }
  Status done = base::ok();
  if (::connect(fd, to.get(), to.length) != 0)
    done = errno == EINPROGRESS ? wait_connected(fd) : base::system_error(errno, "cannot connect");
  if (steered) UPD_TRY(client.ask("probe_end", {{"entry", entry}}));
  return done;
}

Status refuse_shared(const Json& status) {
  return Error(Code::strategy_unsupported,
               "the versions share their sockets: nobody can choose whom a connection reaches")
      .expected("the mechanism 'steered'")
      .got("'shared': " + status.value("reason", std::string()));
}

}  // namespace

Result<ProbeConnection> connect_to_version(const config::Layout& layout, const std::string& app,
                                           const std::string& version,
                                           const std::string& listener) {
  auto client = connect_supervisor(layout, app);
  if (!client && client.error().code() == Code::not_found)
    return Error(Code::not_found, "no service of '" + app + "' runs").hint("updagent status");
  if (!client) return std::move(client).error();
  UPD_ASSIGN(const Json status, client->ask("status"));
  UPD_ASSIGN(const Json generation, newest_of(status, app, version));
  UPD_ASSIGN(const ListensAt at, listener_of(generation, listener));
  if (at.address.is_inet() && status.value("mechanism", std::string()) != "steered")
    UPD_TRY(refuse_shared(status));
  const listen::SocketAddress to = listen::to_sockaddr(listen::reachable_address(at.address));
  ProbeConnection made;
  made.generation = generation.value("number", std::uint64_t{0});
  made.fd.reset(::socket(to.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!made.fd) return base::system_error(errno, "cannot make a socket");
  if (const Status done = connect_steered(*client, made.fd.get(), made.generation, to); !done)
    return Error(done.error()).with_context("listener '" + at.name + "'");
  if (::fcntl(made.fd.get(), F_SETFL, 0) != 0)
    return base::system_error(errno, "cannot prepare a socket");
  if (at.proxy_protocol) {
    UPD_ASSIGN(made.first, health::proxy_header_of(made.fd.get()));
  }
  return made;
}

}  // namespace updagent::deploy
