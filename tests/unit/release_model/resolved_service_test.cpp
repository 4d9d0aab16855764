#include "agent/release/resolved_service.hpp"

#include <gtest/gtest.h>

#include "agent/base/strict_json.hpp"
#include "support.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Json;
using testing::expect_error;

ResolvedService sample() {
  ResolvedService value;
  value.app = "shop";
  value.version = "1.4.2";
  value.strategy = "handoff";
  value.release = "/var/lib/updagent/apps/shop/releases/1.4.2";
  value.data = "/var/lib/updagent/apps/shop/data";
  value.cache = "/var/lib/updagent/apps/shop/cache";
  value.runtime = "/run/updagent/shop";
  value.user = "shop";
  value.environment = {{"GREETING", "grüß \"dich\"\n"}, {"MODE", "{version}"}};
  value.environment_files = {"/etc/updagent/shop.env"};
  value.service = testing::full_service();
  value.max_ready_timeout = base::Milliseconds(1);
  value.max_stop_timeout = base::Milliseconds(2);
  value.max_generations = 16;
  value.memory_reserve = 1ULL << 53;
  return value;
}

base::Result<ResolvedService> read(const std::string& text) {
  return resolved_service_from_json(text, Code::internal);
}

std::string text_of(const ResolvedService& value) {
  auto text = resolved_service_to_json(value, Code::internal);
  EXPECT_TRUE(text) << text.error().line();
  return text.value_or("");
}

template <class Edit>
void refused(Edit edit, std::string_view line) {
  Json tree = Json::parse(text_of(sample()));
  edit(tree);
  expect_error(read(tree.dump()), Code::internal, "resolved service: " + std::string(line));
}

TEST(ResolvedService, Is_read_as_it_was_written) {
  const std::string text = text_of(sample());
  const auto again = read(text);
  ASSERT_TRUE(again) << again.error().line();
  EXPECT_EQ(*again, sample());
  EXPECT_EQ(text_of(*again), text);
}

TEST(ResolvedService, Has_how_it_takes_its_traffic_where_that_is_not_the_default) {
  ResolvedService value = sample();
  EXPECT_EQ(text_of(value).find("io_uring"), std::string::npos);
  EXPECT_EQ(text_of(value).find("affinity"), std::string::npos);
  EXPECT_EQ(text_of(value).find("standby"), std::string::npos);
  value.allow_io_uring = true;
  value.affinity = Affinity::client;
  value.standby = Standby::cold;
  value.service.workers = {
      {.name = "queue", .command = {"bin/consumer", "{data}"}, .stop_signal = SIGINT}};
  value.service.role_signal = SIGUSR2;
  value.service.listeners[0].proxy_protocol = true;
  EXPECT_EQ(read(text_of(value)).value(), value);
  refused([](Json& tree) { tree["affinity"] = "ip"; },
          "affinity is not valid (expected one of client, connection, got 'ip')");
}

TEST(ResolvedService, Needs_nothing_that_has_a_default) {
  ResolvedService value = sample();
  value.strategy = "restart";
  value.user = "";
  value.environment.clear();
  value.environment_files.clear();
  value.service = Service();
  value.service.command = {"x"};
  const auto again = read(text_of(value));
  ASSERT_TRUE(again) << again.error().line();
  EXPECT_EQ(*again, value);
}

TEST(ResolvedService, Has_every_key_and_no_other) {
  const Json whole = Json::parse(text_of(sample()));
  for (const auto& [key, value] : whole.items())
    refused([&, &name = key](Json& tree) { tree.erase(name); },
            key + " is missing (expected a value, got none)");
  for (const std::string key : {"command", "protocol", "ready", "stop_signal"})
    refused([&](Json& tree) { tree["service"].erase(key); },
            "service." + key + " is missing (expected a value, got none)");
  Json tree = whole;
  tree["extra"] = 1;
  EXPECT_FALSE(read(tree.dump()));
  tree = whole;
  tree["service"]["extra"] = 1;
  EXPECT_FALSE(read(tree.dump()));
}

TEST(ResolvedService, Has_values_within_the_rules) {
  refused([](Json& tree) { tree["schema"] = 2; },
          "the schema is not one that this updagent reads (expected 1, got 2)");
  refused([](Json& tree) { tree["app"] = "../x"; },
          "app is not valid (expected the name of an app, got '../x')");
  refused([](Json& tree) { tree["version"] = ""; },
          "version is not valid (expected a version, got '')");
  refused([](Json& tree) { tree["strategy"] = "files"; },
          "strategy is not valid (expected 'handoff' or 'restart', got 'files')");
  for (const std::string key : {"release", "data", "cache", "runtime"})
    refused([&](Json& tree) { tree[key] = "x"; },
            key + " is not valid (expected an absolute path, got 'x')");
  refused([](Json& tree) { tree["user"] = "a b"; },
          "user is not valid (expected the name of a user, got 'a b')");
  refused([](Json& tree) { tree["environment_files"][0] = "x"; },
          "environment_files[0] is not valid (expected an absolute path, got 'x')");
  refused([](Json& tree) { tree["environment"]["A-B"] = "x"; },
          "environment is not valid (expected names of letters, digits and '_', no digit first, "
          "got 'A-B')");
  refused([](Json& tree) { tree["max_generations"] = 1; },
          "max_generations is not valid (expected 2 to 16, got 1)");
  refused([](Json& tree) { tree["max_generations"] = 17; },
          "max_generations is not valid (expected 2 to 16, got 17)");
  refused([](Json& tree) { tree["memory_reserve"] = -1; },
          "memory_reserve is not valid (expected at most 2^53, got 18446744073709551615)");
  refused([](Json& tree) { tree["max_stop_timeout_ms"] = 0; },
          "max_stop_timeout_ms is not valid (expected 1 ms to 24 h, got 0 ms)");
  refused([](Json& tree) { tree["service"]["umask"] = "9"; },
          "service.umask is not valid (expected four octal digits from '0000' to '0777', got '9')");
  refused([](Json& tree) { tree["service"]["listeners"][1]["name"] = "http"; },
          "service.listeners[1].name is not valid (expected a name of its own, got 'http')");
  refused([](Json& tree) { tree["service"] = 1; },
          "service has the wrong type (expected an object, got an integer)");
}

TEST(ResolvedService, Is_strict_JSON) {
  for (const std::string text : {"", "1", "[]", "{", "{}", "null", "{\"schema\":1,\"schema\":1}"}) {
    const auto result = read(text);
    ASSERT_FALSE(result) << text;
    EXPECT_EQ(result.error().code(), Code::internal);
  }
  EXPECT_FALSE(read(text_of(sample()) + "x"));
}

TEST(ResolvedService, Is_bounded_both_ways) {
  expect_error(read(std::string(kMaxResolvedServiceBytes + 1, ' ')), Code::internal,
               "resolved service: too large (expected at most 4194304 bytes, got 4194305)");
  ResolvedService value = sample();
  value.environment.clear();
  for (int i = 100; i < 356; ++i)
    value.environment.emplace_back("V" + std::to_string(i), std::string(kMaxStringBytes, '\x01'));
  const auto text = resolved_service_to_json(value, Code::usage);
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().code(), Code::usage);
  EXPECT_EQ(text.error().message(), "too large");
}

TEST(ResolvedService, That_could_not_be_read_is_not_written) {
  ResolvedService value = sample();
  value.environment = {{"A", "\xFF"}};
  expect_error(resolved_service_to_json(value, Code::usage), Code::usage,
               "resolved service: environment.A is not valid (expected UTF-8, got '\\xff')");
}

}  // namespace
}  // namespace updagent::release
