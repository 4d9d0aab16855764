// Where a service can be asked through its production addresses, and how.
#pragma once

#include <sys/socket.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/error.hpp"
#include "agent/base/strict_json.hpp"
#include "agent/launch/cgroup_support.hpp"
#include "agent/listen/address.hpp"
#include "agent/release/manifest.hpp"

namespace updagent::deploy {

// A listener of one generation.
struct ListensAt {
  std::string name;
  listen::Address address;  // a unix path: the generation's own, beside the public one
  bool proxy_protocol = false;
};

// Of one generation in the supervisor's answer to `status`. Code::io_error when that makes no
// sense.
base::Result<std::vector<ListensAt>> listens_at_from(const base::Json& generation);

// Whether a connection to it can be meant for one generation: tcp is steered, a unix path is the
// generation's own. Abstract names and udp are not.
bool can_be_asked(const listen::Address& address);

// For ProbeContext::wants_proxy_header, which outlives nothing of the caller's.
std::function<bool(const sockaddr*)> proxy_header_rule(
    const std::vector<release::Listener>& listeners);

// A question of the release that is asked where none of its listeners is: whoever holds that port
// answers for both versions, the old process as a rule.
struct AskedElsewhere {
  std::string who;    // "probe 'healthz'", "gate 'errors'"
  std::string where;  // as the release has it
  bool is_gate = false;
};
// Of its probes over http and tcp, and of its scrape gates. A host that is a name can be any
// address: it counts by its port.
std::vector<AskedElsewhere> asked_elsewhere(const release::Manifest& manifest,
                                            const std::vector<release::Listener>& listeners);

// Why the figure that a kernel gate is about can't be had on a node with such cgroups; "" when it
// can.
std::string figure_nobody_knows(const release::Gate& gate, const launch::CgroupSupport& support);

// UPDAGENT_PROBE_ADDRESS_HTTP_8 for the listener "http-8".
std::string probe_address_variable(std::string_view listener);

// What a release asks for that can't be had where connections are shared and not steered, in words:
// "no preflight (nor its 2 smoke commands), no steps". Never empty.
std::string missing_when_shared(const release::Manifest& manifest);
// Steps, but nothing that could take less than all: why, else "".
std::string steps_without_shares(const release::Manifest& manifest,
                                 const std::vector<release::Listener>& listeners);

}  // namespace updagent::deploy
