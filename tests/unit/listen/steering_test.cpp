// Who gets new connections while all is well.
#include <netinet/in.h>
#include <sys/socket.h>

#include <atomic>
#include <thread>

#include "support.hpp"

namespace updagent::listen {
namespace {

using namespace testing;

class SplitTest : public SteeringTest,
                  public ::testing::WithParamInterface<std::pair<std::uint16_t, int>> {};

TEST_P(SplitTest, The_candidate_gets_its_weight_of_new_connections) {
  const auto [weight, connections] = GetParam();
  App app;
  app.open(0);
  app.open(1);
  app.roles(0, 1, weight);
  Counts counts = app.ask_many(connections);
  const Bounds bounds = binomial_bounds(static_cast<std::uint64_t>(connections), share_of(weight));
  EXPECT_GE(counts[1], bounds.low);
  EXPECT_LE(counts[1], bounds.high);
  EXPECT_EQ(counts[0] + counts[1], static_cast<std::uint64_t>(connections));
  EXPECT_EQ(app.count(0, &SteeringCounters::selected), counts[0]);
  EXPECT_EQ(app.count(1, &SteeringCounters::selected), counts[1]);
}

INSTANTIATE_TEST_SUITE_P(
    Weights, SplitTest,
    ::testing::Values(std::pair{std::uint16_t{0}, 2000}, std::pair{std::uint16_t{100}, 8000},
                      std::pair{std::uint16_t{1000}, 4000}, std::pair{std::uint16_t{5000}, 4000},
                      std::pair{std::uint16_t{10000}, 2000}),
    [](const auto& weights) { return "of_10000_" + std::to_string(weights.param.first); });

TEST_F(SteeringTest, Ipv6_is_split_as_well) {
  App app("tcp:[::1]:0");
  app.open(0);
  app.open(1);
  app.roles(0, 1, 5000);
  Counts counts = app.ask_many(1000);
  const Bounds bounds = binomial_bounds(1000, 0.5);
  EXPECT_GE(counts[1], bounds.low);
  EXPECT_LE(counts[1], bounds.high);
}

TEST_F(SteeringTest, A_dual_stack_listener_takes_both_families_and_steers_both) {
  App app("tcp:[::]:0", false);
  app.open(0);
  app.open(1);
  app.roles(0, 1, kWeightAll);
  const std::uint16_t port = app.spec.address.port;
  for (const std::string host : {"127.0.0.1", "[::1]"}) {
    const auto client = connect_to(parse("tcp:" + host + ":" + std::to_string(port)));
    ASSERT_TRUE(client) << host;
    EXPECT_EQ(app.accept_any().first, 1) << host;
  }
}

TEST_F(SteeringTest, All_listeners_of_an_app_move_in_one_store) {
  App app;
  app.open(0);
  app.open(1);
  SteeredListener other = must(SteeredListener::create(app.policy));
  ListenerSpec spec = spec_for("tcp:[::1]:0");
  const auto first = must(other.open(spec, 0));
  spec.address = must(address_of_socket(first.get()));
  const auto second = must(other.open(spec, 1));
  app.roles(1);
  EXPECT_EQ(app.ask(), 1);
  const auto client = connect_to(spec.address);
  EXPECT_TRUE(wait_readable(second.get()));
}

class ProbeTest : public SteeringTest, public ::testing::WithParamInterface<std::string> {};

// Three generations, half of the traffic on one of them: every probe reaches the one it is for.
TEST_P(ProbeTest, Every_probe_reaches_the_generation_that_it_is_for) {
  const std::string host = GetParam();
  const bool dual = host == "dual";
  App app(dual ? "tcp:[::]:0" : "tcp:" + host + ":0", !dual);
  for (const Slot slot : {Slot{0}, Slot{1}, Slot{2}}) app.open(slot);
  app.roles(0, 1, 5000);
  Address target = app.spec.address;
  if (dual) target = parse("tcp:127.0.0.1:" + std::to_string(target.port));
  for (int i = 0; i < 300; ++i) {
    const auto wanted = static_cast<Slot>(i % 3);
    base::UniqueFd client(::socket(target.family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    Address source = target;
    source.port = 0;
    SocketAddress raw = to_sockaddr(source);
    ASSERT_EQ(::bind(client.get(), raw.get(), raw.length), 0);
    source = must(address_of_socket(client.get()));
    const unsigned entry =
        must(app.policy.enter_probe(source, wanted, steering_now_ns() + 10 * kSecondNs));
    raw = to_sockaddr(target);
    ASSERT_EQ(::connect(client.get(), raw.get(), raw.length), 0);
    app.policy.clear_probe(entry);
    EXPECT_EQ(app.accept_any().first, wanted);
  }
  EXPECT_EQ(app.count(2, &SteeringCounters::probes), 100U);
  EXPECT_EQ(app.count(2, &SteeringCounters::selected), 0U);
}

INSTANTIATE_TEST_SUITE_P(Families, ProbeTest, ::testing::Values("127.0.0.1", "[::1]", "dual"),
                         [](const auto& family) {
                           return family.param == "dual"    ? "v4_on_dual_stack"
                                  : family.param == "[::1]" ? "v6"
                                                            : "v4";
                         });

TEST_F(SteeringTest, A_probe_entry_is_for_one_address_and_one_port) {
  App app;
  app.open(0);
  app.open(1);
  app.roles(0);
  const Address source = parse("tcp:127.0.0.2:40001");
  const unsigned entry =
      must(app.policy.enter_probe(source, 1, steering_now_ns() + 60 * kSecondNs));
  EXPECT_EQ(app.ask(source), 1);
  EXPECT_EQ(app.ask(parse("tcp:127.0.0.3:40001")), 0);
  EXPECT_EQ(app.ask(parse("tcp:127.0.0.2:40002")), 0);
  app.policy.clear_probe(entry);
  EXPECT_EQ(app.ask(source), 0);
}

TEST_F(SteeringTest, A_probe_entry_that_nobody_cleared_ends_by_itself) {
  App app;
  app.open(0);
  app.open(1);
  app.roles(0);
  const Address source = parse("tcp:127.0.0.2:40003");
  must(app.policy.enter_probe(source, 1, steering_now_ns()));
  EXPECT_EQ(app.ask(source), 0);
}

TEST_F(SteeringTest, A_probe_of_a_generation_that_is_gone_is_refused_not_answered_by_another) {
  App app;
  app.open(0);
  app.open(1);
  app.roles(0);
  const Address source = parse("tcp:127.0.0.2:40004");
  must(app.policy.enter_probe(source, 1, steering_now_ns() + 60 * kSecondNs));
  must(shut_down(app.fd(1)));
  app.sockets.erase(1);
  EXPECT_EQ(app.ask(source), -1);
  EXPECT_EQ(app.ask(), 0);
}

TEST_F(SteeringTest, With_eight_probes_entered_the_ninth_waits_and_all_eight_arrive) {
  App app;
  app.open(0);
  app.open(1);
  app.roles(0);
  for (std::uint16_t i = 0; i < kMaxProbes; ++i) {
    const Address source = parse("tcp:127.0.0.4:" + std::to_string(41000 + i));
    must(app.policy.enter_probe(source, 1, steering_now_ns() + 60 * kSecondNs));
  }
  const auto ninth =
      app.policy.enter_probe(parse("tcp:127.0.0.4:41100"), 1, steering_now_ns() + 60 * kSecondNs);
  ASSERT_FALSE(ninth);
  EXPECT_EQ(ninth.error().code(), base::Code::busy);
  for (int i = 0; i < kMaxProbes; ++i)
    EXPECT_EQ(app.ask(parse("tcp:127.0.0.4:" + std::to_string(41000 + i))), 1);
}

// --- lease and atomicity ------------------------------------------------------------------------

TEST_F(SteeringTest, A_weight_ends_with_its_lease_though_nobody_acts) {
  App app;
  app.open(0);
  app.open(1);
  Roles roles;
  roles.active = 0;
  roles.candidate = 1;
  roles.weight = kWeightAll;
  const std::uint64_t expires = steering_now_ns() + kSecondNs / 5;
  must(app.policy.set(roles, expires));
  bool seen_before = false;
  while (steering_now_ns() < expires + kSecondNs / 20) {
    const int slot = app.ask();
    ASSERT_GE(slot, 0);
    // the kernel chose before the clock is read here
    if (slot == 1) seen_before = true;
    if (slot == 0) {
      EXPECT_GE(steering_now_ns(), expires);
    }
  }
  EXPECT_TRUE(seen_before);
  for (int i = 0; i < 200; ++i) EXPECT_EQ(app.ask(), 0);
  EXPECT_EQ(app.policy.effective_weight(), 0);
}

// Two states that no half of the other may be mixed with: slot 3 alone, and slot 1 alone. Torn
// ones would choose slot 0 or 2.
TEST_F(SteeringTest, No_connection_ever_sees_half_of_a_change) {
  App app;
  for (const Slot slot : {Slot{0}, Slot{1}, Slot{2}, Slot{3}}) app.open(slot);
  Roles one;
  one.active = 2;
  one.candidate = 3;
  one.weight = kWeightAll;
  Roles other;
  other.active = 1;
  other.candidate = 0;
  other.weight = 0;
  must(app.policy.set(one, 0));
  std::atomic<bool> stop = false;
  std::uint64_t changes = 0;
  std::thread writer([&] {
    while (!stop) {
      static_cast<void>(app.policy.set(other, 0));
      static_cast<void>(app.policy.set(one, 0));
      changes += 2;
    }
  });
  Counts counts = app.ask_many(4000);
  stop = true;
  writer.join();
  EXPECT_EQ(counts[0], 0U);
  EXPECT_EQ(counts[2], 0U);
  EXPECT_GT(counts[1], 0U);
  EXPECT_GT(counts[3], 0U);
  EXPECT_GT(changes, 4000U);
}

// --- udp ----------------------------------------------------------------------------------------

int udp_ask(App& app) {
  const base::UniqueFd client(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const SocketAddress raw = to_sockaddr(app.spec.address);
  if (!client || ::sendto(client.get(), "x", 1, 0, raw.get(), raw.length) != 1) return -1;
  for (int tries = 0; tries < 1000; ++tries) {
    for (const auto& [slot, fd] : app.sockets) {
      char byte = 0;
      if (::recv(fd.get(), &byte, 1, MSG_DONTWAIT) == 1) return slot;
    }
    std::this_thread::yield();
  }
  return -2;
}

TEST_F(SteeringTest, Datagrams_move_all_or_none) {
  App app("udp:127.0.0.1:0");
  app.open(0);
  app.open(1);
  for (const auto& [weight, slot] :
       {std::pair{0, 0}, std::pair{5000, 0}, std::pair{9999, 0}, std::pair{10000, 1}}) {
    app.roles(0, 1, static_cast<std::uint16_t>(weight));
    for (int i = 0; i < 200; ++i) ASSERT_EQ(udp_ask(app), slot) << weight;
  }
  // a slot without a socket: back to the active one
  must(app.listener.remove(1));
  EXPECT_EQ(udp_ask(app), 0);
}

}  // namespace
}  // namespace updagent::listen
