// Shares by client: who keeps its side, and how many connections a few of them carry.
#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <numeric>
#include <set>

#include "support.hpp"

namespace updagent::listen {
namespace {

using namespace testing;

std::uint64_t client_of(const Address& address) {
  std::uint64_t client = 0;
  std::memcpy(&client, address.ip.data(), address.family == AF_INET ? 4 : 8);
  return client;
}

// The same clients at growing weights: each keeps its side once it is with the candidate, the share
// is right, and what the kernel does is what client_share() says.
void check_clients(App& app, const std::vector<Address>& clients) {
  std::set<std::size_t> with_candidate;
  constexpr std::array<std::uint16_t, 5> kWeights = {0, 100, 1000, 5000, 10000};
  for (const std::uint16_t weight : kWeights) {
    app.roles(0, 1, weight, kNoSlot, Affinity::client);
    std::set<std::size_t> now;
    for (std::size_t i = 0; i < clients.size(); ++i) {
      const int slot = app.ask(clients[i]);
      ASSERT_GE(slot, 0);
      const bool predicted = client_share(client_of(clients[i]), app.policy.salt()) < weight;
      EXPECT_EQ(slot, predicted ? 1 : 0) << clients[i].text();
      if (slot == 1) now.insert(i);
    }
    for (const std::size_t before : with_candidate) EXPECT_TRUE(now.count(before));
    const Bounds bounds = binomial_bounds(clients.size(), share_of(weight));
    EXPECT_GE(now.size(), bounds.low) << weight;
    EXPECT_LE(now.size(), bounds.high) << weight;
    with_candidate = now;
  }
}

TEST_F(SteeringTest, A_client_keeps_its_side_and_only_moves_to_the_candidate_as_weight_grows) {
  App app;
  app.open(0);
  app.open(1);
  must(app.policy.set_salt(0x1234567890ABCDEF));
  std::vector<Address> clients;
  for (int i = 0; i < 500; ++i)
    clients.push_back(
        parse("tcp:127.1." + std::to_string(i / 250) + "." + std::to_string(1 + i % 250) + ":0"));
  check_clients(app, clients);
}

TEST_F(SteeringTest, An_ipv6_client_is_its_first_64_bits) {
  App app("tcp:[::1]:0");
  app.open(0);
  app.open(1);
  must(app.policy.set_salt(42));
  std::vector<Address> clients;
  for (int i = 0; i < 200; ++i) {
    const std::string net = "fd00:0:0:" + std::to_string(i + 1);
    for (const std::string host : {"::1", "::ffff:2"}) {
      if (!add_v6_address(net + host)) GTEST_SKIP() << "no address may be added to the loopback";
      clients.push_back(parse("tcp:[" + net + host + "]:0"));
    }
  }
  app.roles(0, 1, 5000, kNoSlot, Affinity::client);
  int with_candidate = 0;
  for (std::size_t i = 0; i < clients.size(); i += 2) {
    const int first = app.ask(clients[i]);
    const int second = app.ask(clients[i + 1]);
    if (first < 0 || second < 0) GTEST_SKIP() << "an address on the loopback is not usable yet";
    EXPECT_EQ(first, second) << clients[i].text();
    EXPECT_EQ(first == 1, client_share(client_of(clients[i]), 42) < 5000);
    with_candidate += first;
  }
  const Bounds bounds = binomial_bounds(200, 0.5);
  EXPECT_GE(static_cast<std::uint64_t>(with_candidate), bounds.low);
  EXPECT_LE(static_cast<std::uint64_t>(with_candidate), bounds.high);
}

TEST_F(SteeringTest, Another_salt_chooses_other_clients) {
  int moved = 0;
  for (std::uint64_t client = 0; client < 1000; ++client)
    moved += (client_share(client, 1) < 5000) != (client_share(client, 2) < 5000) ? 1 : 0;
  const Bounds bounds = binomial_bounds(1000, 0.5);
  EXPECT_GE(static_cast<std::uint64_t>(moved), bounds.low);
  EXPECT_LE(static_cast<std::uint64_t>(moved), bounds.high);
}

// Client i of 14 comes i times. What the buckets hold is told by the same hash as in the kernel.
TEST_F(SteeringTest, Clients_are_counted_while_they_decide_and_the_ten_busiest_are_told) {
  App app;
  app.open(0);
  app.open(1);
  const auto ask_all = [&app](std::array<std::uint64_t, kClientBuckets>& buckets) {
    for (int i = 1; i <= 14; ++i) {
      const Address from = parse("tcp:127.2." + std::to_string(i) + ".1:0");
      for (int n = 0; n < i; ++n) ASSERT_GE(app.ask(from), 0);
      buckets[client_bucket(client_of(from), app.policy.salt())] += static_cast<std::uint64_t>(i);
    }
    std::sort(buckets.begin(), buckets.end(), std::greater<>());
  };
  must(app.policy.set_salt(7));
  app.roles(0, 1, 5000);  // by chance: nobody's address is looked at
  std::array<std::uint64_t, kClientBuckets> buckets{};
  ask_all(buckets);
  EXPECT_EQ(app.policy.clients().connections, 0U);
  EXPECT_EQ(app.policy.clients().of_the_busiest, 0U);

  app.roles(0, 1, 5000, kNoSlot, Affinity::client);
  buckets = {};
  ask_all(buckets);
  const ClientSpread spread = app.policy.clients();
  EXPECT_EQ(spread.connections, 105U);
  const auto tenth = buckets.begin() + kBusiest;
  EXPECT_EQ(spread.of_the_busiest, std::accumulate(buckets.begin(), tenth, std::uint64_t{0}));
  EXPECT_LT(spread.of_the_busiest, spread.connections);

  app.roles(0, 1, 0, kNoSlot, Affinity::client);
  must(app.policy.set_salt(8));
  EXPECT_EQ(app.policy.clients().connections, 0U) << "another deployment counts anew";
}

TEST_F(SteeringTest, One_address_that_carries_all_is_the_busiest) {
  App app;
  app.open(0);
  app.open(1);
  app.roles(0, 1, 100, kNoSlot, Affinity::client);
  const Address proxy = parse("tcp:127.3.0.1:0");
  for (int i = 0; i < 40; ++i) ASSERT_GE(app.ask(proxy), 0);
  EXPECT_EQ(app.policy.clients().connections, 40U);
  EXPECT_EQ(app.policy.clients().of_the_busiest, 40U);
}

// Our own questions are no client's.
TEST_F(SteeringTest, Probes_are_not_counted_among_the_clients) {
  App app;
  app.open(0);
  app.open(1);
  app.roles(0, 1, 100, kNoSlot, Affinity::client);
  const Address source = parse("tcp:127.0.0.2:40005");
  must(app.policy.enter_probe(source, 1, steering_now_ns() + 60 * kSecondNs));
  EXPECT_EQ(app.ask(source), 1);
  EXPECT_EQ(app.policy.clients().connections, 0U);
}

}  // namespace
}  // namespace updagent::listen
