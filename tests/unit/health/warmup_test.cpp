#include "agent/health/warmup.hpp"

#include "probe_server.hpp"

namespace updagent::health {
namespace {

release::Warmup warmup_of(std::vector<std::string> paths, int count) {
  release::Warmup warmup;
  warmup.paths = std::move(paths);
  warmup.count = count;
  warmup.timeout = base::Milliseconds(60'000);
  return warmup;
}

WarmupResult warm(const release::Warmup& warmup, const std::string& origin,
                  const ProbeContext& context = {}) {
  auto done = warm_up(warmup, origin, context, false);
  EXPECT_TRUE(done.has_value()) << done.error().line();
  return done.value_or(WarmupResult());
}

TEST(WarmupTest, AsksForEachPathAsOftenAsWished) {
  const ProbeServer server;
  const WarmupResult done = warm(warmup_of({"/after?n=7", "/ok", "/fail"}, 7), server.url(""));
  EXPECT_EQ(done.wanted, 21);
  EXPECT_EQ(done.answered, 21);
  EXPECT_EQ(done.problem, "");
  // seven were answered well, and all of them were asked for
  EXPECT_FALSE(prove_all({http_probe(server.url("/after?n=7"))}).healthy);
}

TEST(WarmupTest, AnyStatusIsAnAnswerAndNoAnswerIsCounted) {
  const ProbeServer server;
  const WarmupResult done = warm(warmup_of({"/fail", "/drop", "/redirect"}, 2), server.url(""));
  EXPECT_EQ(done.wanted, 6);
  EXPECT_EQ(done.answered, 4);
  EXPECT_NE(done.problem, "");
}

TEST(WarmupTest, KeepsItsConnectionsAndSteersNoMoreThanThose) {
  const ProbeServer server;
  std::size_t held = 0;
  std::size_t most = 0;
  std::size_t entered = 0;
  ProbeContext context;
  context.steer = [&](int, const sockaddr*) -> base::Result<std::function<void()>> {
    most = std::max(most, ++held);
    ++entered;
    return std::function<void()>([&] { --held; });
  };
  const WarmupResult done = warm(warmup_of({"/ok"}, 50), server.url(""), context);
  EXPECT_EQ(done.answered, 50);
  EXPECT_EQ(held, 0U);
  EXPECT_LE(most, kWarmupAtOnce);
  EXPECT_LE(entered, kWarmupAtOnce);
  EXPECT_GE(entered, 1U);
}

TEST(WarmupTest, EndsWithItsTime) {
  const ProbeServer server;
  release::Warmup warmup = warmup_of({"/slow"}, 10);
  warmup.timeout = base::Milliseconds(100);
  const WarmupResult done = warm(warmup, server.url(""));
  EXPECT_EQ(done.answered, 0);
  EXPECT_TRUE(done.timed_out);
}

TEST(WarmupTest, ARefusedSteeringIsAProblemAndNoUsersConnection) {
  const ProbeServer server;
  ProbeContext context;
  context.steer = [](int, const sockaddr*) -> base::Result<std::function<void()>> {
    return base::Error(base::Code::not_found, "there is no such generation");
  };
  const WarmupResult done = warm(warmup_of({"/ok"}, 3), server.url(""), context);
  EXPECT_EQ(done.answered, 0);
  EXPECT_EQ(done.problem, "there is no such generation");
}

TEST(WarmupTest, APlaceThatOthersHaveIsWaitedFor) {
  const ProbeServer server;
  int asked = 0;
  ProbeContext context;
  context.steer = [&](int, const sockaddr*) -> base::Result<std::function<void()>> {
    if (++asked <= 6) return base::Error(base::Code::busy, "all places are taken");
    return std::function<void()>([] {});
  };
  const WarmupResult done = warm(warmup_of({"/ok"}, 10), server.url(""), context);
  EXPECT_EQ(done.answered, 10);
  EXPECT_EQ(done.problem, "");
}

TEST(WarmupTest, AnErrorOfTheTickEndsIt) {
  const ProbeServer server;
  ProbeContext context;
  context.on_tick = [] { return base::Error(base::Code::probe_failed, "the candidate died"); };
  const auto done = warm_up(warmup_of({"/slow"}, 1), server.url(""), context, false);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().message(), "the candidate died");
}

}  // namespace
}  // namespace updagent::health
