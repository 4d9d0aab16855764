#include "support.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <sstream>

#include "agent/listen/mechanism.hpp"

namespace updagent::listen::testing {
namespace {

constexpr int kPatienceMs = 10'000;  // for what should be there at once
bool own_network = false;

// linux/ipv6.h clashes with netinet/in.h
struct Ipv6Request {
  in6_addr address;
  std::uint32_t prefix_length;
  int interface;
};

void raise_loopback() {
  const base::UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  ::ioctl(fd.get(), SIOCGIFFLAGS, &request);
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  ::ioctl(fd.get(), SIOCSIFFLAGS, &request);
}

}  // namespace

void enter_own_network() {
  if (::unshare(CLONE_NEWNET) != 0) return;
  own_network = true;
  raise_loopback();
}

bool in_own_network() {
  return own_network;
}

bool add_v6_address(const std::string& address) {
  const base::UniqueFd fd(::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  Ipv6Request request{};
  ::inet_pton(AF_INET6, address.c_str(), &request.address);
  request.prefix_length = 128;
  request.interface = static_cast<int>(::if_nametoindex("lo"));
  return ::ioctl(fd.get(), SIOCSIFADDR, &request) == 0 || errno == EEXIST;
}

Address parse(const std::string& text) {
  return must(parse_address(text, "test", base::Code::config_invalid));
}

ListenerSpec spec_for(const std::string& address) {
  ListenerSpec spec;
  spec.name = "http";
  spec.address = parse(address);
  spec.nonblocking = true;
  return spec;
}

base::UniqueFd connect_to(const Address& address, const std::optional<Address>& from) {
  base::UniqueFd fd(::socket(address.family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const linger reset{1, 0};
  const int one = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  if (from) {
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    const SocketAddress own = to_sockaddr(*from);
    if (::bind(fd.get(), own.get(), own.length) != 0) return {};
  }
  const SocketAddress raw = to_sockaddr(address);
  if (::connect(fd.get(), raw.get(), raw.length) != 0) return {};
  return fd;
}

void send_text(int fd, const std::string& text) {
  if (::send(fd, text.data(), text.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(text.size()))
    throw std::runtime_error("cannot send");
}

bool wait_readable(int fd) {
  pollfd waiting{fd, POLLIN, 0};
  return ::poll(&waiting, 1, kPatienceMs) == 1;
}

std::string receive_text(int fd, std::size_t size) {
  std::string text(size, '\0');
  std::size_t got = 0;
  while (got < size && wait_readable(fd)) {
    const ssize_t count = ::recv(fd, text.data() + got, size - got, 0);
    if (count <= 0) break;
    got += static_cast<std::size_t>(count);
  }
  text.resize(got);
  return text;
}

int half_open(std::uint16_t port) {
  std::ifstream table("/proc/thread-self/net/tcp");
  std::string line;
  int count = 0;
  while (std::getline(table, line)) {
    std::istringstream row(line);
    std::string number;
    std::string local;
    std::string remote;
    std::string state;
    row >> number >> local >> remote >> state;
    if (state != "03") continue;  // TCP_SYN_RECV
    if (std::stoul(local.substr(local.find(':') + 1), nullptr, 16) == port) ++count;
  }
  return count;
}

// Sums the tails exactly; n is some thousands.
Bounds binomial_bounds(std::uint64_t n, double p) {
  if (p <= 0) return {0, 0};
  if (p >= 1) return {n, n};
  constexpr double kAlarm = 5e-10;  // on each side
  const auto total = static_cast<double>(n);
  const auto chance = [&](std::uint64_t k) {
    const auto x = static_cast<double>(k);
    return std::exp(std::lgamma(total + 1) - std::lgamma(x + 1) - std::lgamma(total - x + 1) +
                    x * std::log(p) + (total - x) * std::log1p(-p));
  };
  Bounds bounds{0, n};
  for (double tail = chance(0); tail < kAlarm; tail += chance(bounds.low)) ++bounds.low;
  for (double tail = chance(n); tail < kAlarm; tail += chance(bounds.high)) --bounds.high;
  return bounds;
}

App::App(const std::string& address, bool v6only)
    : policy(must(Policy::create())),
      listener(must(SteeredListener::create(policy))),
      spec(spec_for(address)) {
  spec.address.v6only = v6only;
}

void App::open(Slot slot) {
  auto fd = must(listener.open(spec, slot));
  if (spec.address.port == 0) spec.address = must(address_of_socket(fd.get()));
  sockets[slot] = std::move(fd);
}

void App::roles(Slot active, Slot candidate, std::uint16_t weight, Slot standby,
                Affinity affinity) {
  Roles roles;
  roles.active = active;
  roles.candidate = candidate;
  roles.standby = standby;
  roles.weight = weight;
  roles.affinity = affinity;
  must(policy.set(roles, 0));
}

std::pair<int, base::UniqueFd> App::accept_any() {
  std::vector<pollfd> waiting;
  std::vector<int> slots;
  for (const auto& [slot, fd] : sockets) {
    waiting.push_back({fd.get(), POLLIN, 0});
    slots.push_back(slot);
  }
  if (::poll(waiting.data(), waiting.size(), kPatienceMs) <= 0) return {-2, base::UniqueFd()};
  for (std::size_t i = 0; i < waiting.size(); ++i) {
    if ((waiting[i].revents & POLLIN) == 0) continue;
    base::UniqueFd accepted(::accept4(waiting[i].fd, nullptr, nullptr, SOCK_CLOEXEC));
    if (accepted) return {slots[i], std::move(accepted)};
  }
  return {-2, base::UniqueFd()};
}

int App::ask(const std::optional<Address>& from) {
  const base::UniqueFd client = connect_to(spec.address, from);
  if (!client) return errno == ECONNREFUSED ? -1 : -3;
  return accept_any().first;
}

Counts App::ask_many(int connections) {
  Counts counts;
  for (int i = 0; i < connections; ++i) ++counts[ask()];
  return counts;
}

std::uint64_t App::count(Slot slot, __u64 SteeringCounters::* what) const {
  return must(listener.counters())[std::min<std::size_t>(slot, kMaxSlots)].*what;
}

void no_migration_by_sysctl() {
  std::ifstream file("/proc/sys/net/ipv4/tcp_migrate_req");
  int value = -1;
  file >> value;
  ASSERT_EQ(value, 0) << "this machine migrates by sysctl: the test would prove nothing";
}

int detach_program(int fd) {
  const int nothing = 0;
  return ::setsockopt(fd, SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, &nothing, sizeof nothing) == 0
             ? 0
             : errno;
}

Child::Child(const Body& body) {
  std::array<int, 2> pipe{};
  if (::pipe2(pipe.data(), O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
  pid_ = ::fork();
  if (pid_ == 0) {
    ::close(pipe[0]);
    try {
      body([&](const std::string& text) {
        static_cast<void>(!::write(pipe[1], text.data(), text.size()));
        ::close(pipe[1]);
        pipe[1] = -1;
      });
    } catch (const std::exception& error) {
      const std::string text = std::string("failed: ") + error.what();
      static_cast<void>(!::write(pipe[1], text.data(), text.size()));
      ::_exit(1);
    }
    for (;;) ::pause();
  }
  ::close(pipe[1]);
  std::array<char, 512> text{};
  ssize_t count = 0;
  while ((count = ::read(pipe[0], text.data(), text.size())) > 0)
    report_.append(text.data(), static_cast<std::size_t>(count));
  ::close(pipe[0]);
}

void Child::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

Child::~Child() {
  kill();
}

const std::string& why_not_steered() {
  static const std::string reason = find_mechanism().reason;
  return reason;
}

}  // namespace updagent::listen::testing
