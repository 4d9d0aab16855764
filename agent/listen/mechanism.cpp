#include "agent/listen/mechanism.hpp"

#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <cerrno>

#include "agent/listen/steering.hpp"

namespace updagent::listen {
namespace {

using base::Error;
using base::Result;
using base::Status;
using base::UniqueFd;

constexpr int kTrialMs = 1000;  // a connection to ourselves takes some microseconds
// As long as real ones: a clock that is behind by less only shortens them.
constexpr std::uint64_t kTrialLeaseNs = 10'000'000'000;

ListenerSpec trial_spec() {
  ListenerSpec spec;
  spec.name = "trial";
  spec.address.ip = {127, 0, 0, 1};
  spec.nonblocking = true;
  return spec;
}

Result<UniqueFd> connect_to(const Address& address) {
  UniqueFd client(::socket(address.family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const SocketAddress raw = to_sockaddr(address);
  if (!client || (::connect(client.get(), raw.get(), raw.length) != 0 && errno != EINPROGRESS))
    return base::system_error(errno, "cannot connect to a socket of our own at " + address.text());
  return client;
}

Status check_choice(Policy& policy, const Address& address, const UniqueFd& chosen,
                    const Roles& roles, std::uint64_t expires_ns) {
  UPD_TRY(policy.set(roles, expires_ns));
  UPD_ASSIGN(const UniqueFd client, connect_to(address));
  pollfd waiting{chosen.get(), POLLIN, 0};
  int ready = 0;
  while ((ready = ::poll(&waiting, 1, kTrialMs)) < 0 && errno == EINTR) {
  }
  if (ready != 1)
    return Error(base::Code::io_error, "a connection did not go where the program sent it");
  const UniqueFd accepted(::accept4(chosen.get(), nullptr, nullptr, SOCK_CLOEXEC));
  return base::ok();
}

// By role, by weight, and by a lease that is over: in a time namespace our clock is not the
// program's, and leases would never or always be over.
Status check_choices(Policy& policy, const Address& address, const UniqueFd& first,
                     const UniqueFd& second) {
  Roles roles;
  roles.active = 1;
  UPD_TRY(check_choice(policy, address, second, roles, 0));
  roles.candidate = 0;
  roles.weight = kWeightAll;
  UPD_TRY(check_choice(policy, address, first, roles, steering_now_ns() + kTrialLeaseNs));
  Status lease = check_choice(policy, address, second, roles, steering_now_ns());
  if (lease) return lease;
  return Error(std::move(lease).error()).hint("is updagent in a time namespace of its own?");
}

Status try_succession(const Policy& policy, const SteeredListener& listener) {
  UPD_ASSIGN(const PolicyIds policy_ids, policy.ids());
  UPD_ASSIGN(const SteeredIds ids, listener.ids());
  UPD_ASSIGN(const Policy again, Policy::reopen(policy_ids));
  UPD_ASSIGN(const SteeredListener same, SteeredListener::reopen(again, ids));
  UPD_ASSIGN(const bool attached, same.attached());
  if (attached) return base::ok();
  return Error(base::Code::io_error, "the attached program is not among those that are loaded");
}

Status try_to_steer() {
  UPD_ASSIGN(Policy policy, Policy::create());
  UPD_ASSIGN(SteeredListener listener, SteeredListener::create(policy));
  ListenerSpec spec = trial_spec();
  UPD_ASSIGN(const UniqueFd first, listener.open(spec, 0));
  UPD_ASSIGN(spec.address, address_of_socket(first.get()));
  UPD_ASSIGN(const UniqueFd second, listener.open(spec, 1));
  UPD_TRY(check_choices(policy, spec.address, first, second));
  return try_succession(policy, listener);
}

}  // namespace

std::string_view mechanism_name(Mechanism mechanism) {
  return mechanism == Mechanism::steered ? "steered" : "shared";
}

MechanismFound find_mechanism() {
  // on kernels before 5.11, which can't steer, libbpf raises this limit: services would inherit it
  rlimit locked{};
  const bool known = ::getrlimit(RLIMIT_MEMLOCK, &locked) == 0;
  const Status tried = try_to_steer();
  if (known) ::setrlimit(RLIMIT_MEMLOCK, &locked);
  if (tried) return {Mechanism::steered, ""};
  std::string reason = tried.error().line();
  if (!tried.error().hint().empty()) reason += "; " + tried.error().hint();
  return {Mechanism::shared, std::move(reason)};
}

}  // namespace updagent::listen
