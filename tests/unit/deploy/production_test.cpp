#include "agent/deploy/production.hpp"

#include <gtest/gtest.h>
#include <netinet/in.h>

namespace updagent::deploy {
namespace {

release::Listener listener(const std::string& address, bool proxy_protocol = false) {
  release::Listener made;
  made.name = "http";
  made.address = address;
  made.proxy_protocol = proxy_protocol;
  return made;
}

listen::SocketAddress socket_address(const std::string& text) {
  return listen::to_sockaddr(*listen::parse_address(text, "test", base::Code::usage));
}

bool wants(const std::vector<release::Listener>& listeners, const std::string& address) {
  const auto rule = proxy_header_rule(listeners);
  return rule && rule(socket_address(address).get());
}

TEST(ProductionTest, TheProxyHeaderGoesToListenersThatWantIt) {
  const std::vector<release::Listener> listeners = {listener("tcp:127.0.0.1:80", true),
                                                    listener("tcp:127.0.0.1:81")};
  EXPECT_TRUE(wants(listeners, "tcp:127.0.0.1:80"));
  EXPECT_FALSE(wants(listeners, "tcp:127.0.0.1:81"));
  EXPECT_FALSE(wants(listeners, "tcp:127.0.0.2:80"));
  EXPECT_FALSE(wants(listeners, "tcp:[::1]:80"));
  EXPECT_FALSE(wants(listeners, "unix:/run/x.sock"));
}

TEST(ProductionTest, AWildcardIsEveryAddressOfItsFamily) {
  EXPECT_TRUE(wants({listener("tcp:0.0.0.0:80", true)}, "tcp:127.0.0.1:80"));
  EXPECT_FALSE(wants({listener("tcp:0.0.0.0:80", true)}, "tcp:[::1]:80"));
  EXPECT_TRUE(wants({listener("tcp:[::]:80", true)}, "tcp:[::1]:80"));
  EXPECT_TRUE(wants({listener("tcp:[::]:80", true)}, "tcp:127.0.0.1:80"));
  release::Listener only_v6 = listener("tcp:[::]:80", true);
  only_v6.ipv6_only = true;
  EXPECT_FALSE(wants({only_v6}, "tcp:127.0.0.1:80"));
}

TEST(ProductionTest, WithoutAnyThatWantsItThereIsNoRule) {
  EXPECT_FALSE(proxy_header_rule({listener("tcp:127.0.0.1:80")}));
}

struct Asking {
  release::Manifest manifest;
  std::vector<release::Listener> listeners = {
      listener("unix:/run/a.sock"), listener("tcp:0.0.0.0:80"), listener("tcp:[::1]:8443")};
  void probe(release::ProbeType type, const std::string& target) {
    release::Probe made;
    made.name = "p" + std::to_string(manifest.probes.size());
    made.type = type;
    (type == release::ProbeType::tcp ? made.address : made.url) = target;
    manifest.probes.push_back(made);
  }
  void gate(release::GateType type, const std::string& url) {
    release::Gate made;
    made.name = "g" + std::to_string(manifest.gates.size());
    made.type = type;
    made.url = url;
    manifest.gates.push_back(made);
  }
  std::vector<std::string> elsewhere() const {
    std::vector<std::string> all;
    for (const AskedElsewhere& asked : asked_elsewhere(manifest, listeners))
      all.push_back(asked.who + " " + asked.where);
    return all;
  }
};

TEST(ProductionTest, WhatIsAskedAtAListenerIsAskedOfOneVersion) {
  Asking asking;
  for (const std::string url :
       {"http://127.0.0.1:80/metrics", "http://127.0.0.1/", "http://0.0.0.0?a=:9",
        "http://[::1]:8443", "https://localhost:8443/", "http://10.0.0.1:80/x:1"}) {
    asking.probe(release::ProbeType::http, url);
    asking.gate(release::GateType::scrape, url);
  }
  asking.probe(release::ProbeType::tcp, "127.0.0.1:80");
  asking.probe(release::ProbeType::exec, "");
  asking.gate(release::GateType::prometheus, "http://127.0.0.1:9090");
  EXPECT_EQ(asking.elsewhere(), std::vector<std::string>());
}

TEST(ProductionTest, WhatIsAskedElsewhereIsNamed) {
  Asking asking;
  asking.probe(release::ProbeType::http, "https://127.0.0.1/healthz");
  asking.probe(release::ProbeType::tcp, "127.0.0.1:81");
  asking.gate(release::GateType::scrape, "http://127.0.0.1:9100/metrics");
  asking.gate(release::GateType::scrape, "http://[::1]/metrics");
  asking.gate(release::GateType::scrape, "http://localhost:9100/metrics");
  EXPECT_EQ(asking.elsewhere(),
            (std::vector<std::string>{
                "probe 'p0' https://127.0.0.1/healthz", "probe 'p1' 127.0.0.1:81",
                "gate 'g0' http://127.0.0.1:9100/metrics", "gate 'g1' http://[::1]/metrics",
                "gate 'g2' http://localhost:9100/metrics"}));
}

TEST(ProductionTest, AListenerWhosePortTheKernelChoosesMayBeMeant) {
  Asking asking;
  asking.listeners = {listener("tcp:127.0.0.1:0")};
  asking.gate(release::GateType::scrape, "http://127.0.0.1:9100/metrics");
  EXPECT_EQ(asking.elsewhere(), std::vector<std::string>());
}

std::string what_is_missing(const std::string& condition, launch::CgroupKind kind, bool usable) {
  release::Gate gate;
  gate.type = release::GateType::kernel;
  gate.condition = condition;
  launch::CgroupSupport support;
  support.kind = kind;
  support.usable = usable;
  support.reason = "no cgroup2 is mounted";
  return figure_nobody_knows(gate, support);
}

TEST(ProductionTest, WhatOnlyCgroupsKnowIsMissingWithoutThem) {
  using launch::CgroupKind;
  EXPECT_EQ(what_is_missing("cpu <= 2", CgroupKind::none, false), "no cgroup2 is mounted");
  EXPECT_EQ(what_is_missing("oom_kills <= 0", CgroupKind::v1, false), "no cgroup2 is mounted");
  EXPECT_EQ(what_is_missing("cpu <= 2", CgroupKind::hybrid, true), "");
  EXPECT_EQ(what_is_missing("oom_kills <= 0", CgroupKind::hybrid, true),
            "hybrid: its cgroup2 tree has no controllers");
  EXPECT_EQ(what_is_missing(" oom_kills<=0", CgroupKind::unified, true), "");
  EXPECT_EQ(what_is_missing("memory <= 2 x active", CgroupKind::none, false), "");
  EXPECT_EQ(what_is_missing("queue <= 2", CgroupKind::none, false), "");
}

TEST(ProductionTest, NamesOfListenersBecomeVariables) {
  EXPECT_EQ(probe_address_variable("http"), "UPDAGENT_PROBE_ADDRESS_HTTP");
  EXPECT_EQ(probe_address_variable("local-api.v2"), "UPDAGENT_PROBE_ADDRESS_LOCAL_API_V2");
}

TEST(ProductionTest, WhatASharedHandoffLacksIsWhatTheReleaseAsksFor) {
  release::Manifest manifest;
  EXPECT_EQ(missing_when_shared(manifest), "no preflight, no warm standby");
  manifest.rollout.standby = release::Standby::cold;
  manifest.preflight.warmup.emplace();
  manifest.preflight.smoke.resize(2);
  manifest.rollout.steps.resize(3);
  release::Gate absolute;
  absolute.name = "errors";
  absolute.type = release::GateType::scrape;
  absolute.condition = "error_ratio <= 0.05";
  release::Gate relative;
  relative.name = "slower";
  relative.type = release::GateType::kernel;
  relative.condition = "memory <= 3.0 x active";
  manifest.gates = {absolute, relative};
  EXPECT_EQ(missing_when_shared(manifest),
            "no preflight, no warm-up, no smoke commands (2), no steps (3), no comparison with the "
            "active release (gate 'slower'), no judgement by gate 'errors'");
}

TEST(ProductionTest, StepsOfWhatGoesOverAsAWholeAreTold) {
  release::Manifest manifest;
  EXPECT_EQ(steps_without_shares(manifest, {listener("unix:/run/a.sock")}), "");
  release::Step first;
  first.percent = 10;
  manifest.rollout.steps = {first, release::Step{}};
  EXPECT_EQ(
      steps_without_shares(manifest, {listener("unix:/run/a.sock"), listener("udp:[::1]:53")}),
      "the steps share nothing: unix:/run/a.sock, udp:[::1]:53 go to the candidate as a whole, "
      "at 100 % only");
  EXPECT_EQ(
      steps_without_shares(manifest, {listener("unix:/run/a.sock"), listener("tcp:[::1]:80")}), "");
  manifest.rollout.steps = {release::Step{}};
  EXPECT_EQ(steps_without_shares(manifest, {listener("unix:/run/a.sock")}), "");
}

}  // namespace
}  // namespace updagent::deploy
