#include "agent/deploy/production.hpp"

#include <netinet/in.h>

#include <algorithm>
#include <cstring>

#include "agent/base/text.hpp"
#include "agent/fetch/url.hpp"
#include "agent/release/gate_condition.hpp"

namespace updagent::deploy {

using base::Code;
using listen::Address;
using listen::Transport;

namespace {

constexpr std::string_view kTcp = "tcp:";

// With what `ipv6_only` makes of it; only those of tcp.
std::vector<Address> tcp_addresses(const std::vector<release::Listener>& listeners) {
  std::vector<Address> addresses;
  for (const release::Listener& listener : listeners) {
    if (!listener.address.starts_with(kTcp)) continue;
    auto address = listen::parse_address(listener.address, listener.name, Code::internal);
    if (!address) continue;
    address->v6only = listener.ipv6_only || address->family != AF_INET6;
    addresses.push_back(*address);
  }
  return addresses;
}

// "127.0.0.1:8080" of "http://127.0.0.1:8080/metrics", as libcurl will ask; release/ has checked
// it.
std::string host_and_port(const std::string& url) {
  const auto parsed = fetch::parse_url(url);
  return parsed ? parsed->origin.substr(parsed->scheme.size() + std::string_view("://").size())
                : std::string();
}

bool is_at(const std::vector<Address>& listeners, const std::string& host_and_port) {
  const auto literal = listen::parse_address(std::string(kTcp) + host_and_port, "", Code::internal);
  const auto port =
      base::parse_u64(std::string_view(host_and_port).substr(host_and_port.rfind(':') + 1));
  return std::ranges::any_of(listeners, [&](const Address& listener) {
    if (listener.port == 0) return true;  // the kernel will choose
    if (literal) return listen::contains(listener, reachable_address(*literal));
    return port && *port == listener.port;
  });
}

}  // namespace

base::Result<std::vector<ListensAt>> listens_at_from(const base::Json& generation) {
  std::vector<ListensAt> all;
  for (const base::Json& one : generation.value("listeners", base::Json::array())) {
    ListensAt listener;
    listener.name = one.value("name", std::string());
    UPD_ASSIGN(listener.address, listen::parse_address(one.value("address", std::string()),
                                                       "the supervisor's status", Code::io_error));
    listener.proxy_protocol = one.value("proxy_protocol", false);
    all.push_back(std::move(listener));
  }
  return all;
}

bool can_be_asked(const Address& address) {
  return address.transport == Transport::tcp || address.transport == Transport::unix_path;
}

std::function<bool(const sockaddr*)> proxy_header_rule(
    const std::vector<release::Listener>& listeners) {
  std::vector<release::Listener> with_header = listeners;
  std::erase_if(with_header, [](const auto& listener) { return !listener.proxy_protocol; });
  const std::vector<Address> wanting = tcp_addresses(with_header);
  if (wanting.empty()) return nullptr;
  return [wanting](const sockaddr* to) {
    if (to->sa_family != AF_INET && to->sa_family != AF_INET6) return false;
    const socklen_t length = to->sa_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    sockaddr_storage storage{};
    std::memcpy(&storage, to, length);
    const auto asked = listen::from_sockaddr(storage, length, true);
    return asked && std::any_of(wanting.begin(), wanting.end(), [&](const Address& listener) {
             return listen::contains(listener, *asked);
           });
  };
}

std::vector<AskedElsewhere> asked_elsewhere(const release::Manifest& manifest,
                                            const std::vector<release::Listener>& listeners) {
  const std::vector<Address> addresses = tcp_addresses(listeners);
  std::vector<AskedElsewhere> all;
  const auto add = [&](AskedElsewhere asked, const std::string& at) {
    if (!is_at(addresses, at)) all.push_back(std::move(asked));
  };
  for (const release::Probe& probe : manifest.probes) {
    const std::string who = "probe '" + probe.name + "'";
    if (probe.type == release::ProbeType::http)
      add({who, probe.url, false}, host_and_port(probe.url));
    else if (probe.type == release::ProbeType::tcp)
      add({who, probe.address, false}, probe.address);
  }
  for (const release::Gate& gate : manifest.gates)
    if (gate.type == release::GateType::scrape)
      add({"gate '" + gate.name + "'", gate.url, true}, host_and_port(gate.url));
  return all;
}

std::string figure_nobody_knows(const release::Gate& gate, const launch::CgroupSupport& support) {
  if (gate.type != release::GateType::kernel) return "";
  const auto condition =
      release::parse_condition(gate.condition, gate.type, gate.name, Code::internal);
  if (!condition || (condition->metric != "cpu" && condition->metric != "oom_kills")) return "";
  if (!support.usable) return support.reason;
  if (condition->metric == "cpu" || support.kind == launch::CgroupKind::unified) return "";
  return std::string(launch::cgroup_kind_name(support.kind)) +
         ": its cgroup2 tree has no controllers";
}

std::string probe_address_variable(std::string_view listener) {
  std::string name = "UPDAGENT_PROBE_ADDRESS_";
  for (const char c : listener) {
    if (c >= 'a' && c <= 'z')
      name += static_cast<char>(c - 'a' + 'A');
    else
      name += (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ? c : '_';
  }
  return name;
}

std::string missing_when_shared(const release::Manifest& manifest) {
  std::vector<std::string> missing = {"preflight"};
  if (manifest.preflight.warmup) missing.emplace_back("warm-up");
  const std::size_t smoke = manifest.preflight.smoke.size();
  if (smoke > 0)
    missing.push_back(smoke == 1 ? "smoke command"
                                 : "smoke commands (" + std::to_string(smoke) + ")");
  if (!manifest.rollout.steps.empty())
    missing.push_back("steps (" + std::to_string(manifest.rollout.steps.size()) + ")");
  std::vector<std::string> relative;
  std::vector<std::string> unread;
  for (const release::Gate& gate : manifest.gates) {
    const auto condition =
        release::parse_condition(gate.condition, gate.type, gate.name, Code::internal);
    const bool counts = gate.condition.starts_with("accepted_ratio");
    if (gate.type == release::GateType::scrape || counts) {
      unread.push_back("'" + gate.name + "'");
    } else if (condition && condition->relative) {
      relative.push_back("'" + gate.name + "'");
    }
  }
  if (!relative.empty())
    missing.push_back("comparison with the active release (gate " + base::join(relative, ", ") +
                      ")");
  if (!unread.empty()) missing.push_back("judgement by gate " + base::join(unread, ", "));
  if (manifest.rollout.standby == release::Standby::warm) missing.emplace_back("warm standby");
  for (std::string& one : missing) one.insert(0, "no ");
  return base::join(missing, ", ");
}

std::string steps_without_shares(const release::Manifest& manifest,
                                 const std::vector<release::Listener>& listeners) {
  const auto& steps = manifest.rollout.steps;
  const bool has_shares =
      std::any_of(steps.begin(), steps.end(), [](const auto& step) { return step.percent < 100; });
  if (!has_shares || listeners.empty()) return "";
  std::vector<std::string> whole;
  for (const release::Listener& listener : listeners) {
    if (listener.address.starts_with("tcp:")) return "";
    whole.push_back(listener.address);
  }
  return "the steps share nothing: " + base::join(whole, ", ") +
         (whole.size() == 1 ? " goes" : " go") + " to the candidate as a whole, at 100 % only";
}

}  // namespace updagent::deploy
