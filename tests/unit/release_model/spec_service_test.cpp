// [service] of updagent.toml.
#include <gtest/gtest.h>

#include "agent/release/spec.hpp"
#include "support.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Milliseconds;
using testing::expect_error;

base::Result<Manifest> spec(const std::string& strategy, const std::string& text) {
  return parse_spec("app = \"shop\"\nversion = \"1.4.2\"\nstrategy = \"" + strategy + "\"\n" + text,
                    "updagent.toml");
}

void refused(const std::string& strategy, const std::string& text, std::string_view line,
             Code code = Code::usage) {
  expect_error(spec(strategy, text), code, "updagent.toml: " + std::string(line));
}

const std::string kCommand = "[service]\ncommand = [\"/usr/bin/shop\"]\n";
const std::string kListener =
    "[[service.listener]]\nname = \"http\"\naddress = \"tcp:0.0.0.0:8080\"\n";

TEST(SpecService, Everything_that_an_author_can_say) {
  const auto manifest = spec("handoff", R"(
[service]
command = ["bin/shop", "--fd={fd:http}", "--cache={data}/c", "{{}"]
protocol = "env"
user = "shop"
environment = { JSON = '{"a":{"b":1}}', HOME_OF_ALL = "{runtime_dir}" }
groups = ["ssl-cert", "adm"]
capabilities = ["CAP_NET_BIND_SERVICE", "CAP_CHOWN"]
rlimits = { nofile = "64k", core = 0, memlock = "unlimited" }
umask = "0077"
ready = "probe"
ready_timeout = "1ms"
drain_timeout = "0s"
stop_signal = "SIGQUIT"
stop_timeout = "24h"
reload_signal = "SIGHUP"
watchdog = "1s"
on_crash_loop = "rollback"
allow_shared = true
[service.socket_environment]
FPM_SOCKETS = "{address:fpm}={fd:fpm}"
H3 = "{fd:h3} {host:h3} {port:h3}"
V6 = "{fd:v6} {fd:at}"
[[service.listener]]
name = "http"
address = "tcp:0.0.0.0:80"
backlog = 511
[[service.listener]]
name = "v6"
address = "tcp:[::]:80"
ipv6_only = true
[[service.listener]]
name = "h3"
address = "udp:127.0.0.1:443"
[[service.listener]]
name = "fpm"
address = "unix:/run/shop/fpm.sock"
mode = "0666"
user = "www-data"
group = "web"
[[service.listener]]
name = "at"
address = "unix:@shop"
[[probe]]
name = "port"
type = "tcp"
address = "127.0.0.1:80"
)");
  ASSERT_TRUE(manifest.has_value()) << manifest.error().line();
  EXPECT_EQ(manifest->user, "shop");
  EXPECT_EQ(manifest->environment, testing::full_handoff_manifest().environment);
  EXPECT_EQ(manifest->service, testing::full_service());
}

TEST(SpecService, Defaults_of_what_is_not_said) {
  const auto manifest = spec("handoff", kCommand + kListener);
  ASSERT_TRUE(manifest.has_value()) << manifest.error().line();
  EXPECT_EQ(manifest->service, testing::handoff_manifest().service);
  EXPECT_EQ(testing::write(testing::parse(testing::write(testing::handoff_manifest())).value()),
            testing::write(testing::handoff_manifest()));
}

TEST(SpecService, Defaults_are_those_of_the_protocol) {
  const auto of = [](const std::string& protocol) {
    return spec("handoff", kCommand + "protocol = \"" + protocol + "\"\n" + kListener)
        .value()
        .service.value();
  };
  EXPECT_EQ(of("systemd").ready, Ready::notify);
  EXPECT_EQ(of("inject").ready, Ready::listening);
  EXPECT_EQ(of("inject").stop_signal, SIGTERM);
  EXPECT_EQ(of("nginx").ready, Ready::listening);
  EXPECT_EQ(of("nginx").stop_signal, SIGQUIT);
  EXPECT_EQ(of("nginx").drain_timeout, Milliseconds(60'000));
}

TEST(SpecService, A_strategy_without_its_service_says_what_it_needs) {
  for (const std::string strategy : {"handoff", "restart"}) {
    refused(strategy, "",
            "service is missing (expected a command, which the strategy '" + strategy +
                "' runs, got none)");
    refused(strategy, "[service]\nuser = \"x\"",
            "service.command is missing (expected a value, got none)");
  }
  refused("handoff", kCommand,
          "service.listener is missing (expected at least one, which the strategy 'handoff' hands "
          "over, got none)");
  EXPECT_OK(spec("restart", kCommand));
}

TEST(SpecService, Places_are_those_of_the_file) {
  refused("handoff", kCommand + "ready_timeout = \"0s\"\n" + kListener,
          "service.ready_timeout is not valid (expected 1 ms to 24 h, got 0 ms)");
  refused(
      "handoff", kCommand + "watchdog = 5\n" + kListener,
      "service.watchdog has the wrong type (expected a duration in quotes, such as '30s', got an "
      "integer)");
  refused("handoff", kCommand + kListener + kListener,
          "service.listener[1].name is not valid (expected a name of its own, got 'http')");
  refused("handoff", kCommand + kListener + "proxy_protocl = true",
          "unknown key in service.listener[0] (expected one of address, backlog, group, ipv6_only, "
          "mode, name, proxy_protocol, user, got 'proxy_protocl')");
  refused("handoff", kCommand + "ready = \"probe\"\n" + kListener,
          "service.ready is not valid (expected a probe in 'probe', to be ready by, got none)");
  refused("handoff", kCommand + "rlimits = { stack = \"many\" }\n" + kListener,
          "service.rlimits.stack is not valid (expected a number, a size as \"64MiB\" or "
          "\"unlimited\", got 'many')");
}

TEST(SpecService, Unknown_keys_say_what_was_meant) {
  const auto result = spec("handoff", kCommand + "drain_timout = \"5s\"\n" + kListener);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().hint(), "did you mean 'drain_timeout'?");
}

TEST(SpecService, A_single_listener_is_a_list_of_one) {
  const auto result =
      spec("handoff", kCommand + "[service.listener]\nname = \"a\"\naddress = \"unix:@a\"");
  expect_error(result, Code::usage,
               "updagent.toml: service.listener has the wrong type (expected an array of tables, "
               "got a table)");
  EXPECT_EQ(result.error().hint(), "write [[service.listener]] instead of [service.listener]");
}

}  // namespace
}  // namespace updagent::release
