#include "agent/release/spec.hpp"

#include <gtest/gtest.h>

#include "support.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Milliseconds;
using testing::expect_error;

const std::string kNames = "app = \"shop\"\nversion = \"1.4.2\"\n";

base::Result<Manifest> spec(const std::string& text) {
  return parse_spec(text, "updagent.toml");
}

void refused(const std::string& text, std::string_view line, Code code = Code::usage) {
  expect_error(spec(kNames + text), code, "updagent.toml: " + std::string(line));
}

void hinted(const std::string& text, std::string_view hint) {
  const auto result = spec(kNames + text);
  ASSERT_FALSE(result.has_value()) << hint;
  EXPECT_EQ(result.error().hint(), hint) << result.error().line();
}

TEST(Spec, Everything_that_an_author_can_say) {
  const auto manifest = spec(R"(
app = "shop"
version = "1.4.2"
strategy = "files"
[service]
user = "shop"
environment = { MODE = "prod", A = "b" }
[[probe]]
name = "healthz"
type = "http"
url = "http://127.0.0.1:8080/healthz"
expect_status = ["200-299", 304]
expect_body = "ok"
initial_delay = "500ms"
interval = "2s"
timeout = "3s"
failures = 4
successes = 2
[[probe]]
name = "compile"
type = "exec"
command = ["bin/tsc", "--version"]
timeout = "1m"
[[probe]]
name = "port"
type = "tcp"
address = "127.0.0.1:8080"
[hooks]
pre_upgrade = { command = ["bin/migrate", "--expand"], timeout = "1m30s" }
post_switch = { command = ["a"] }
post_commit = { command = ["b"] }
post_rollback = { command = ["c"] }
[rollout]
watch = "60s"
[retention]
keep = 7
[requires]
agent = ">=1.0.0"
arch = "x86_64"
rollback_floor = "1.3.0"
)");
  ASSERT_TRUE(manifest.has_value()) << manifest.error().line();
  EXPECT_EQ(manifest->app, "shop");
  EXPECT_EQ(manifest->version.text(), "1.4.2");
  EXPECT_EQ(manifest->user, "shop");
  EXPECT_EQ(manifest->environment,
            (std::vector<std::pair<std::string, std::string>>{{"A", "b"}, {"MODE", "prod"}}));
  ASSERT_EQ(manifest->probes.size(), 3U);
  EXPECT_EQ(manifest->probes[0].expect_status,
            (std::vector<std::pair<int, int>>{{200, 299}, {304, 304}}));
  EXPECT_EQ(manifest->probes[0].expect_body, "ok");
  EXPECT_EQ(manifest->probes[0].initial_delay, Milliseconds(500));
  EXPECT_EQ(manifest->probes[0].interval, Milliseconds(2000));
  EXPECT_EQ(manifest->probes[0].timeout, Milliseconds(3000));
  EXPECT_EQ(manifest->probes[0].failures, 4);
  EXPECT_EQ(manifest->probes[0].successes, 2);
  EXPECT_EQ(manifest->probes[1].command.argv, (std::vector<std::string>{"bin/tsc", "--version"}));
  EXPECT_EQ(manifest->probes[1].command.timeout, Milliseconds(60'000));
  EXPECT_EQ(manifest->probes[2].address, "127.0.0.1:8080");
  EXPECT_EQ(manifest->hooks.pre_upgrade->timeout, Milliseconds(90'000));
  EXPECT_EQ(manifest->hooks.post_switch->timeout, Milliseconds(60'000));
  EXPECT_EQ(manifest->hooks.post_commit->argv, std::vector<std::string>{"b"});
  EXPECT_EQ(manifest->hooks.post_rollback->argv, std::vector<std::string>{"c"});
  EXPECT_EQ(manifest->rollout.watch, Milliseconds(60'000));
  EXPECT_EQ(manifest->keep, 7);
  EXPECT_EQ(manifest->needs.rollback_floor->text(), "1.3.0");
  // and it can be written and read
  const std::string text = testing::write(*manifest);
  const auto again = testing::parse(text);
  ASSERT_TRUE(again.has_value()) << again.error().line();
  EXPECT_EQ(testing::write(*again), text);
}

TEST(Spec, Defaults_of_what_is_not_said) {
  const auto manifest =
      spec(kNames + "[[probe]]\nname = \"p\"\ntype = \"http\"\nurl = \"http://h/\"\n");
  ASSERT_TRUE(manifest.has_value()) << manifest.error().line();
  EXPECT_EQ(manifest->strategy, "files");
  EXPECT_EQ(manifest->keep, 3);
  EXPECT_EQ(manifest->rollout.watch, Milliseconds(0));
  const Probe& probe = manifest->probes.at(0);
  EXPECT_EQ(probe.expect_status, (std::vector<std::pair<int, int>>{{200, 299}}));
  EXPECT_EQ(probe.interval, Milliseconds(1000));
  EXPECT_EQ(probe.timeout, Milliseconds(1000));
  EXPECT_EQ(probe.initial_delay, Milliseconds(0));
  EXPECT_EQ(probe.failures, 3);
  EXPECT_EQ(probe.successes, 1);
}

TEST(Spec, A_status_may_be_a_number_a_text_or_a_list) {
  const auto statuses = [](const std::string& value) {
    const auto manifest = spec(
        kNames +
        "[[probe]]\nname = \"p\"\ntype = \"http\"\nurl = \"http://h/\"\nexpect_status = " + value);
    EXPECT_TRUE(manifest.has_value()) << value;
    return manifest ? manifest->probes.at(0).expect_status : std::vector<std::pair<int, int>>();
  };
  using Ranges = std::vector<std::pair<int, int>>;
  EXPECT_EQ(statuses("204"), (Ranges{{204, 204}}));
  EXPECT_EQ(statuses("\"200-299\""), (Ranges{{200, 299}}));
  EXPECT_EQ(statuses("[200, \"301-302\"]"), (Ranges{{200, 200}, {301, 302}}));
}

TEST(Spec, App_and_version_come_from_the_file_or_from_the_command_line) {
  expect_error(spec(""), Code::usage, "updagent.toml: app is missing (expected a value, got none)");
  expect_error(spec("app = \"shop\""), Code::usage,
               "updagent.toml: version is missing (expected a value, got none)");
  EXPECT_EQ(spec("").error().hint(), "write it into updagent.toml, or give --app");
  const auto none = parse_spec("", "x", {.app = "cart", .version = "2.0.0"});
  ASSERT_TRUE(none.has_value()) << none.error().line();
  EXPECT_EQ(none->app, "cart");
  EXPECT_EQ(none->version.text(), "2.0.0");
  const auto both = parse_spec(kNames, "x", {.app = "cart", .version = "2.0.0"});
  ASSERT_TRUE(both.has_value()) << both.error().line();
  EXPECT_EQ(both->app, "cart");
  EXPECT_EQ(both->version.text(), "2.0.0");
  expect_error(parse_spec(kNames, "x", {.app = {}, .version = "2"}), Code::usage,
               "x: version is not valid (expected a version such as 1.4.2 or 1.5.0-rc.1, got '2')");
  expect_error(parse_spec(kNames, "x", {.app = "A", .version = {}}), Code::usage,
               "x: app is not valid (expected 1 to 64 of a-z, 0-9, '.', '_' and '-', a letter or "
               "digit first, no '..', got 'A')");
}

TEST(Spec, Unknown_keys_say_what_was_meant) {
  refused("[service]\nusr = \"x\"",
          "unknown key in service (expected one of environment, user, got 'usr')");
  hinted("[service]\nusr = \"x\"", "did you mean 'user'?");
  hinted("strateg = \"files\"", "did you mean 'strategy'?");
  hinted("[hooks]\npre_upgrad = { command = [\"x\"] }", "did you mean 'pre_upgrade'?");
  hinted("[[probe]]\nname = \"p\"\ntype = \"tcp\"\naddres = \"h:1\"", "did you mean 'address'?");
  hinted("[rollout]\nwatched = \"1s\"", "did you mean 'watch'?");
  refused("[[probe]]\nname = \"p\"\ntype = \"tcp\"\naddress = \"h:1\"\nurl = \"http://h/\"",
          "unknown key in probe[0] (expected one of name, type, address, initial_delay, interval, "
          "timeout, failures, successes, got 'url')");
}

TEST(Spec, Other_strategies_are_named) {
  refused(
      "strategy = \"reload\"\n[[gate]]\nname = \"x\"",
      "this version of updagent can't run the strategy 'reload' (expected 'files', 'handoff' or "
      "'restart', got 'reload')",
      Code::strategy_unsupported);
  refused("strategy = \"file\"",
          "strategy is not valid (expected 'files', 'handoff' or 'restart', got 'file')");
}

TEST(Spec, Keys_of_strategies_that_run_the_service_say_so) {
  for (const std::string key :
       {"command", "protocol", "ready", "ready_timeout", "drain_timeout", "stop_signal",
        "stop_timeout", "reload_signal", "listener", "groups", "capabilities", "rlimits", "umask",
        "socket_environment", "watchdog", "on_crash_loop", "allow_shared", "role_signal"})
    refused("[service]\n" + key + " = \"x\"",
            "service." + key +
                " belongs to the strategies 'handoff' and 'restart' (expected no such key with "
                "strategy 'files', which starts no process of its own, got '" +
                key + "')");
}

TEST(Spec, Workers_belong_to_strategies_that_run_the_service) {
  refused("[[worker]]\nname = \"x\"",
          "worker belongs to the strategies 'handoff' and 'restart' (expected no such key with "
          "strategy 'files', which starts no process of its own, got 'worker')");
}

TEST(Spec, The_rules_are_those_of_the_manifest_with_the_files_own_names) {
  const std::string probe = "[[probe]]\nname = \"p\"\ntype = \"tcp\"\naddress = \"h:1\"\n";
  refused(probe + "interval = \"0s\"",
          "probe[0].interval is not valid (expected 1 ms to 24 h, got 0 ms)");
  refused(probe + "timeout = \"25h\"",
          "probe[0].timeout is not valid (expected 1 ms to 24 h, got 90000000 ms)");
  refused(probe + "failures = 0", "probe[0].failures is not valid (expected 1 to 1000, got 0)");
  refused(probe + probe, "probe[1].name is not valid (expected a name of its own, got 'p')");
  refused("[hooks]\npost_commit = { command = [] }",
          "hooks.post_commit.command is not valid (expected 1 to 256 words, got 0)");
  refused("[hooks]\npost_commit = { command = [\"x\", \"a\\u0000b\"] }",
          "hooks.post_commit.command[1] is not valid (expected no NUL, got one)");
  refused("[hooks]\npost_commit = { timeout = \"1s\" }",
          "hooks.post_commit.command is missing (expected a value, got none)");
  refused("[retention]\nkeep = 0", "retention.keep is not valid (expected 1 to 1000, got 0)");
  refused("[requires]\nagent = \"new\"",
          "requires.agent is not valid (expected one such as '>=1.0.0' or '>=1.2.0, <2.0.0', got "
          "'new')");
  refused("[service.environment]\n\"A-B\" = \"x\"",
          "service.environment is not valid (expected names of letters, digits and '_', no digit "
          "first, got 'A-B')");
}

TEST(Spec, Types_and_durations) {
  refused("[rollout]\nwatch = 60",
          "rollout.watch has the wrong type (expected a duration in quotes, such as '30s', got an "
          "integer)");
  refused(
      "[rollout]\nwatch = \"60\"",
      "rollout.watch is not a duration (expected one such as '30s', '500ms' or '1m30s', got '60')");
  refused("[rollout]\nwatch = \"-1s\"",
          "rollout.watch is not a duration (expected one such as '30s', '500ms' or '1m30s', got "
          "'-1s')");
  refused("[retention]\nkeep = \"3\"",
          "retention.keep has the wrong type (expected an integer, got a string)");
  refused("[retention]\nkeep = 3.5",
          "retention.keep has the wrong type (expected a string, an integer, an array or a table, "
          "got a fraction)");
  refused("[service]\nuser = 2024-06-18",
          "service.user has the wrong type (expected a string, an integer, an array or a table, "
          "got a date)");
  refused("hooks = 1", "hooks has the wrong type (expected an object, got an integer)");
  refused("[probe]\nname = \"p\"",
          "probe has the wrong type (expected an array of tables, got a table)");
  hinted("[probe]\nname = \"p\"", "write [[probe]] instead of [probe]");
  refused("[hooks]\npre_upgrade = \"bin/x\"",
          "hooks.pre_upgrade has the wrong type (expected an object, got a string)");
}

TEST(Spec, Text_that_is_not_toml_names_the_line) {
  const auto result = parse_spec("app = \"shop\"\nversion = \n", "my.toml");
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code(), Code::usage);
  EXPECT_TRUE(result.error().line().starts_with(
      "my.toml: not valid TOML (expected TOML 1.0, got line 2, column "))
      << result.error().line();
  for (const std::string& bad : std::vector<std::string>{
           "app = \"a\"\napp = \"b\"", "\xFF", "a = [", std::string("a = \"\0\"", 7), "\""})
    EXPECT_FALSE(parse_spec(bad, "x").has_value()) << bad;
}

TEST(Spec, Size_and_depth_are_bounded) {
  expect_error(parse_spec(std::string(kMaxSpecBytes + 1, ' '), "x"), Code::usage,
               "x: too large (expected at most 1048576 bytes, got 1048577)");
  refused("hooks = " + std::string(20, '[') + std::string(20, ']'),
          "hooks[0][0][0][0][0][0][0][0][0][0][0][0][0][0][0] is nested too deep (expected at most "
          "16 levels, got more)");
  EXPECT_FALSE(parse_spec("a = " + std::string(100'000, '['), "x").has_value());
}

}  // namespace
}  // namespace updagent::release
