#include "agent/service/adoption.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <set>

#include "agent/base/pidfd.hpp"
#include "agent/launch/proc_stat.hpp"
#include "agent/listen/diag.hpp"

namespace updagent::service {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::Status;

constexpr pid_t kInit = 1;  // holds the sockets of socket units; nobody's main process

Result<listen::ListenerSpec> wanted_spec(const release::Listener& listener) {
  listen::ListenerSpec spec;
  spec.name = listener.name;
  UPD_ASSIGN(spec.address, listen::parse_address(listener.address, "listener " + listener.name,
                                                 Code::config_invalid));
  spec.address.v6only = listener.ipv6_only || spec.address.family != AF_INET6;
  return spec;
}

Result<launch::ProcessWatch> watch(pid_t pid) {
  base::UniqueFd pidfd = base::open_pidfd(pid);
  if (!pidfd && errno == ESRCH)
    return Error(Code::not_found, "there is no process " + std::to_string(pid));
  if (!pidfd) return base::system_error(errno, "cannot open process " + std::to_string(pid));
  UPD_ASSIGN(launch::ProcessIdentity identity, launch::identify_process(pid, pidfd));
  return launch::ProcessWatch::own(std::move(identity), std::move(pidfd));
}

Status check_main_process(pid_t pid, const std::vector<listen::RunningListener>& found) {
  const auto stat = launch::read_proc_stat(pid);
  if (!stat || stat->parent <= kInit) return base::ok();
  listen::InodeSet parents;
  if (!parents.add_process(stat->parent)) return base::ok();
  const bool shared = std::any_of(found.begin(), found.end(), [&](const auto& listener) {
    return parents.has(listener.inode);
  });
  if (!shared) return base::ok();
  return Error(Code::usage,
               "process " + std::to_string(pid) + " is a worker: its parent holds the same sockets")
      .expected("the service's main process")
      .hint("--pid " + std::to_string(stat->parent));
}

std::vector<std::string> not_named(const std::vector<listen::RunningListener>& left) {
  std::vector<std::string> addresses;
  addresses.reserve(left.size());
  for (const listen::RunningListener& one : left) addresses.push_back(one.address.text());
  return addresses;
}

std::string program_of(pid_t pid) {
  std::array<char, PATH_MAX> path{};
  const std::string link = "/proc/" + std::to_string(pid) + "/exe";
  const ssize_t length = ::readlink(link.c_str(), path.data(), path.size());
  return length > 0 ? std::string(path.data(), static_cast<std::size_t>(length)) : std::string();
}

}  // namespace

Result<RunningService> find_running_service(pid_t pid, release::ResolvedService run) {
  UPD_ASSIGN(launch::ProcessWatch process, watch(pid));
  UPD_ASSIGN(std::vector<listen::RunningListener> running, listen::running_listeners(pid));
  std::vector<listen::ListenerSpec> specs;
  std::vector<listen::RunningListener> found;
  for (const release::Listener& listener : run.service.listeners) {
    UPD_ASSIGN(listen::ListenerSpec spec, wanted_spec(listener));
    UPD_ASSIGN(listen::RunningListener one, listen::take_running(running, spec));
    found.push_back(std::move(one));
    specs.push_back(std::move(spec));
  }
  UPD_TRY(check_main_process(pid, found));
  if (!process.alive())
    return Error(Code::not_found, "process " + std::to_string(pid) + " has just ended");
  RunningService service{std::move(process), std::move(run), {}, not_named(running), ""};
  for (std::size_t i = 0; i < found.size(); ++i) {
    UPD_ASSIGN(listen::Adopted adopted, listen::adopt(std::move(found[i]), specs[i]));
    release::Listener& listener = service.run.service.listeners[i];
    listener.address = adopted.spec.address.text();
    listener.ipv6_only = adopted.spec.address.family == AF_INET6 && adopted.spec.address.v6only;
    if (adopted.mechanism == listen::Mechanism::shared && adopted.spec.address.is_inet() &&
        service.why_shared.empty())
      service.why_shared = "listener '" + listener.name + "': " + adopted.why_shared;
    service.listeners.push_back(std::move(adopted));
  }
  return service;
}

std::vector<pid_t> other_holders(const std::vector<std::uint32_t>& inodes) {
  std::set<pid_t> holders;
  const std::string own = program_of(::getpid());
  for (const auto& [inode, owners] : listen::owners_of(inodes))
    for (const listen::SocketOwner& owner : owners)
      // our holder of descriptors is this program, too
      if (owner.pid != ::getpid() && program_of(owner.pid) != own) holders.insert(owner.pid);
  return {holders.begin(), holders.end()};
}

}  // namespace updagent::service
