// The shared page: what may be written into it, and in which order.
#include <linux/bpf.h>

#include <atomic>
#include <thread>

#include "agent/listen/bpf_maps.hpp"
#include "agent/listen/steer_program.hpp"
#include "support.hpp"

namespace updagent::listen {
namespace {

using namespace testing;

class PolicyTest : public SteeringTest {};

Roles candidate_at(Slot candidate, std::uint16_t weight) {
  Roles roles;
  roles.active = 0;
  roles.candidate = candidate;
  roles.weight = weight;
  return roles;
}

TEST(PolicyWordTest, Every_field_of_the_word_comes_back) {
  Roles roles;
  roles.active = 3;
  roles.candidate = 15;
  roles.standby = kNoSlot;
  roles.weight = 10000;
  roles.affinity = Affinity::client;
  EXPECT_EQ(from_word(to_word(roles)), roles);
  EXPECT_EQ(from_word(to_word(Roles{})), Roles{});
  EXPECT_EQ(to_word(roles) >> 48, 0U);
}

TEST_F(PolicyTest, A_fresh_policy_names_nobody) {
  const Policy policy = must(Policy::create());
  EXPECT_EQ(policy.roles(), Roles{});
  EXPECT_EQ(policy.expires_ns(), 0U);
  EXPECT_EQ(policy.effective_weight(), 0);
}

TEST_F(PolicyTest, What_makes_no_sense_is_refused_and_changes_nothing) {
  Policy policy = must(Policy::create());
  must(policy.set(candidate_at(1, 100), 0));
  EXPECT_FALSE(policy.set(candidate_at(1, kWeightAll + 1), 0));
  EXPECT_FALSE(policy.set(candidate_at(kNoSlot, 1), 0));
  EXPECT_FALSE(policy.set(candidate_at(kMaxSlots, 0), 0));
  EXPECT_FALSE(policy.set_salt(7));  // it would move clients
  EXPECT_FALSE(policy.enter_probe(parse("tcp:127.0.0.1:0"), 1, 1));
  EXPECT_FALSE(policy.enter_probe(parse("tcp:0.0.0.0:99"), 1, 1));
  EXPECT_FALSE(policy.enter_probe(parse("unix:/x"), 1, 1));
  EXPECT_FALSE(policy.enter_probe(parse("tcp:127.0.0.1:99"), kMaxSlots, 1));
  EXPECT_EQ(policy.roles(), candidate_at(1, 100));
}

TEST_F(PolicyTest,
       Places_of_probes_whose_asker_died_are_given_away_and_he_can_t_clear_them_any_more) {
  Policy policy = must(Policy::create());
  const auto source = [](int port) { return parse("tcp:127.0.0.1:" + std::to_string(port)); };
  std::vector<unsigned> dead;
  for (int i = 0; i < kMaxProbes; ++i)
    dead.push_back(must(policy.enter_probe(source(1000 + i), 1, steering_now_ns() - 1)));
  const std::uint64_t later = steering_now_ns() + 60 * kSecondNs;
  for (int i = 0; i < kMaxProbes; ++i) must(policy.enter_probe(source(2000 + i), 1, later));
  for (const unsigned entry : dead) policy.clear_probe(entry);
  EXPECT_EQ(policy.enter_probe(source(3000), 1, later).error().code(), base::Code::busy);
}

TEST_F(PolicyTest, A_lease_that_ran_out_is_neither_renewed_nor_given_a_weight) {
  Policy policy = must(Policy::create());
  must(policy.set(candidate_at(1, 100), 1));
  EXPECT_EQ(policy.effective_weight(), 0);
  EXPECT_EQ(policy.renew(steering_now_ns() + kSecondNs).error().code(), base::Code::timed_out);
  EXPECT_EQ(policy.set(candidate_at(1, 200), steering_now_ns() + kSecondNs).error().code(),
            base::Code::timed_out);
  EXPECT_EQ(policy.set(candidate_at(2, 200), 0).error().code(), base::Code::timed_out);
  EXPECT_EQ(policy.expires_ns(), 1U);
  must(policy.set(candidate_at(1, 0), 0));
  must(policy.set(candidate_at(1, 200), steering_now_ns() + 60 * kSecondNs));
  must(policy.renew(steering_now_ns() + 70 * kSecondNs));
  EXPECT_EQ(policy.effective_weight(), 200);
}

TEST_F(PolicyTest, Who_judges_ends_the_lease_of_its_own_deployment_for_all) {
  Policy policy = must(Policy::create());
  Policy judge = must(Policy::reopen(must(policy.ids())));
  const std::uint64_t later = steering_now_ns() + 60 * kSecondNs;
  must(policy.set_salt(7));
  judge.end_lease(7);  // there is none yet
  EXPECT_EQ(policy.expires_ns(), 0U);
  must(policy.set(candidate_at(1, 100), later));
  judge.end_lease(8);  // of another deployment
  EXPECT_EQ(policy.effective_weight(), 100);

  judge.end_lease(7);
  EXPECT_EQ(policy.effective_weight(), 0);
  EXPECT_EQ(policy.renew(later).error().code(), base::Code::timed_out);
  EXPECT_EQ(policy.set(candidate_at(1, 200), later).error().code(), base::Code::timed_out);
  EXPECT_EQ(policy.effective_weight(), 0);

  must(policy.set(candidate_at(1, 0), 0));
  must(policy.set_salt(9));
  must(policy.set(candidate_at(2, 300), later));
  judge.end_lease(7);  // one that slept over all that
  EXPECT_EQ(policy.effective_weight(), 300);
}

// Renewals as fast as they come: whoever ends the lease among them has the last word each time.
TEST_F(PolicyTest, A_lease_that_was_ended_is_never_renewed_by_who_had_not_seen_it) {
  Policy policy = must(Policy::create());
  Policy judge = must(Policy::reopen(must(policy.ids())));
  constexpr int kRounds = 300;
  for (int i = 0; i < kRounds; ++i) {
    must(policy.set(candidate_at(1, 0), 0));
    must(policy.set_salt(static_cast<std::uint64_t>(i) + 1));
    must(policy.set(candidate_at(1, 100), steering_now_ns() + 60 * kSecondNs));
    std::jthread renewing([&policy](const std::stop_token& stop) {
      while (!stop.stop_requested())
        if (!policy.renew(steering_now_ns() + 60 * kSecondNs)) return;
    });
    judge.end_lease(static_cast<std::uint64_t>(i) + 1);
    renewing.request_stop();
    renewing.join();
    ASSERT_EQ(policy.effective_weight(), 0) << i;
  }
}

TEST_F(PolicyTest, A_second_mapping_sees_the_same_policy) {
  Policy policy = must(Policy::create());
  const PolicyIds ids = must(policy.ids());
  Policy again = must(Policy::reopen(ids));
  must(again.set(candidate_at(4, 300), 0));
  EXPECT_EQ(policy.roles(), candidate_at(4, 300));
  EXPECT_EQ(must(again.ids()).tag, ids.tag);
}

TEST_F(PolicyTest, A_map_of_another_shape_or_name_or_layout_is_refused) {
  const Policy policy = must(Policy::create());
  MapShape shape = policy_shape();
  shape.name = "updagent_polic";
  EXPECT_EQ(Policy::from_fd(must(create_map(shape)), 0).error().code(), base::Code::damaged);
  shape = policy_shape();
  shape.value_size += 8;
  EXPECT_EQ(Policy::from_fd(must(create_map(shape)), 0).error().code(), base::Code::damaged);
  shape = policy_shape();
  shape.entries = 2;
  EXPECT_EQ(Policy::from_fd(must(create_map(shape)), 0).error().code(), base::Code::damaged);
  shape = policy_shape();
  shape.flags = 0;
  EXPECT_EQ(Policy::from_fd(must(create_map(shape)), 0).error().code(), base::Code::damaged);
  // the right shape, but nobody has written a layout into it
  EXPECT_EQ(Policy::from_fd(must(create_map(policy_shape())), 0).error().code(),
            base::Code::damaged);
}

TEST_F(PolicyTest, A_policy_that_nobody_uses_any_more_is_gone) {
  PolicyIds ids;
  {
    const Policy policy = must(Policy::create());
    ids = must(policy.ids());
  }
  EXPECT_EQ(Policy::reopen(ids).error().code(), base::Code::not_found);
}

// Reads as the kernel's program does: the expiry, then the word. Each lease has another end, so a
// reader knows which change it has seen. Odd ends are leases of candidate 1, even ones of 2.
TEST_F(PolicyTest, A_new_lease_is_never_seen_with_the_weight_of_an_older_one) {
  Policy policy = must(Policy::create());
  const PolicyIds ids = must(policy.ids());
  const Policy reader = must(Policy::reopen(ids));
  const std::uint64_t far = steering_now_ns() + 3600 * kSecondNs;
  const std::uint64_t base_ns = far - far % 2;
  std::atomic<bool> stop = false;
  std::thread writer([&] {
    for (std::uint64_t i = 0; !stop; ++i) {
      const bool odd = i % 2 == 1;
      must(policy.set(candidate_at(odd ? 1 : 2, 5000), base_ns + i));
      if (i % 7 == 0) must(policy.set(candidate_at(odd ? 1 : 2, 0), base_ns + i));
    }
  });
  int seen = 0;
  int wrong = 0;
  for (int i = 0; i < 800'000; ++i) {
    const std::uint64_t before = reader.expires_ns();
    const Roles roles = reader.roles();
    if (before == 0 || reader.expires_ns() != before || roles.weight == 0) continue;
    ++seen;
    if (roles.candidate != (before % 2 == 1 ? 1 : 2)) ++wrong;
  }
  stop = true;
  writer.join();
  EXPECT_GT(seen, 0);
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace updagent::listen
