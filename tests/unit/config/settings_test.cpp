#include <unistd.h>

#include "tests/unit/config/support.hpp"

namespace updagent::config {
namespace {

using namespace test;
using base::Milliseconds;

TEST(Settings, Without_any_file_are_the_defaults) {
  const Node node;
  std::filesystem::remove_all(node.root() + "/etc");
  const auto settings = node.load("shop");
  ASSERT_TRUE(settings) << settings.error().line();
  EXPECT_FALSE(settings->node_name.empty());
  EXPECT_EQ(settings->app.threshold, 1);
  EXPECT_EQ(settings->app.default_user, "nobody");
  EXPECT_EQ(settings->fetch.connect_timeout, Milliseconds(20'000));
  EXPECT_TRUE(settings->sources.empty());
}

TEST(Settings, Take_every_key_from_the_files) {
  const Node node;
  const auto settings = node.load_text(R"(
node_name = "web-1"
[fetch]
connect_timeout = "5s"
low_speed_time = "1m30s"
low_speed_bytes = 1000
give_up_after = "2h"
max_artifact_bytes = "64MiB"
bytes_per_second = "4M"
ca_file = "/a/ca.pem"
client_certificate = "/a/cert.pem"
client_key = "/a/key.pem"
netrc = true
netrc_file = "/a/netrc"
[trust]
threshold = 2
[run]
user = "shop"
default_user = "www-data"
environment = { A = "1", B_2 = "two\nlines" }
environment_files = ["/a/env"]
listeners = { http = "tcp:10.0.0.5:80", "b.c" = "unix:/run/b" }
rlimits = { nofile = 65536, core = 0, stack = "64MiB", memlock = "unlimited" }
max_generations = 16
[allow]
users = ["shop", "*"]
root = true
groups = ["adm", "root"]
capabilities = ["CAP_NET_BIND_SERVICE"]
addresses = ["tcp:*:80", "unix:/run/shop/*"]
io_uring = true
[retention]
keep = 7
[limits]
max_hook_timeout = "1m"
max_watch = "0s"
max_step_patience = "0s"
max_pause = "2h"
max_ready_timeout = "2m"
max_drain_timeout = "0s"
max_stop_timeout = "1s"
memory_reserve = "1GiB"
max_release_bytes = 4096
min_free_bytes = 0
[audit]
group = "adm"
keep = "30d"
max_events = 5000
[store]
incoming_keep = "1d"
incoming_max_bytes = "1GiB"
[[notify]]
name = "a"
on = ["any"]
webhook = "https://example.com/x"
timeout = "500ms"
retries = 0
bearer_token_file = "/a/token"
)");
  ASSERT_TRUE(settings) << settings.error().line();
  EXPECT_EQ(settings->node_name, "web-1");
  EXPECT_EQ(settings->fetch.connect_timeout, Milliseconds(5000));
  EXPECT_EQ(settings->fetch.low_speed_time, Milliseconds(90'000));
  EXPECT_EQ(settings->fetch.low_speed_bytes, 1000U);
  EXPECT_EQ(settings->fetch.give_up_after, Milliseconds(7'200'000));
  EXPECT_EQ(settings->fetch.max_artifact_bytes, 64U << 20);
  EXPECT_EQ(settings->fetch.bytes_per_second, 4U << 20);
  EXPECT_EQ(settings->fetch.ca_file, "/a/ca.pem");
  EXPECT_EQ(settings->fetch.client_certificate, "/a/cert.pem");
  EXPECT_EQ(settings->fetch.client_key, "/a/key.pem");
  EXPECT_TRUE(settings->fetch.netrc);
  EXPECT_EQ(settings->fetch.netrc_file, "/a/netrc");
  EXPECT_EQ(settings->app.threshold, 2);
  EXPECT_EQ(settings->app.user, "shop");
  EXPECT_EQ(settings->app.default_user, "www-data");
  EXPECT_EQ(settings->app.environment,
            (std::map<std::string, std::string>{{"A", "1"}, {"B_2", "two\nlines"}}));
  EXPECT_EQ(settings->app.environment_files, std::vector<std::string>{"/a/env"});
  EXPECT_EQ(settings->app.allowed_users, (std::vector<std::string>{"shop", "*"}));
  EXPECT_TRUE(settings->app.allow_root);
  EXPECT_EQ(settings->app.allowed_groups, (std::vector<std::string>{"adm", "root"}));
  EXPECT_EQ(settings->app.allowed_capabilities, std::vector<std::string>{"CAP_NET_BIND_SERVICE"});
  EXPECT_EQ(settings->app.allowed_addresses,
            (std::vector<std::string>{"tcp:*:80", "unix:/run/shop/*"}));
  EXPECT_TRUE(settings->app.allow_io_uring);
  EXPECT_EQ(settings->app.listeners, (std::map<std::string, std::string>{
                                         {"b.c", "unix:/run/b"}, {"http", "tcp:10.0.0.5:80"}}));
  EXPECT_EQ(settings->app.rlimits,
            (std::map<std::string, std::uint64_t>{
                {"core", 0}, {"memlock", ~0ULL}, {"nofile", 65536}, {"stack", 64U << 20}}));
  EXPECT_EQ(settings->app.max_generations, 16);
  EXPECT_EQ(settings->app.max_ready_timeout, Milliseconds(120'000));
  EXPECT_EQ(settings->app.max_drain_timeout, Milliseconds(0));
  EXPECT_EQ(settings->app.max_stop_timeout, Milliseconds(1000));
  EXPECT_EQ(settings->app.memory_reserve, 1U << 30);
  EXPECT_EQ(settings->app.keep, 7);
  EXPECT_EQ(settings->app.max_hook_timeout, Milliseconds(60'000));
  EXPECT_EQ(settings->app.max_watch, Milliseconds(0));
  EXPECT_EQ(settings->app.max_step_patience, Milliseconds(0));
  EXPECT_EQ(settings->app.max_pause, Milliseconds(7'200'000));
  EXPECT_EQ(settings->app.max_release_bytes, 4096U);
  EXPECT_EQ(settings->app.min_free_bytes, 0U);
  EXPECT_EQ(settings->audit_group, "adm");
  EXPECT_EQ(settings->audit_keep, Milliseconds(30LL * 86'400'000));
  EXPECT_EQ(settings->audit_max_events, 5000U);
  EXPECT_EQ(settings->incoming_keep, Milliseconds(86'400'000));
  EXPECT_EQ(settings->incoming_max_bytes, 1U << 30);
  ASSERT_EQ(settings->notifications.size(), 1U);
  const Notification& notify = settings->notifications[0];
  EXPECT_EQ(notify.name, "a");
  EXPECT_EQ(notify.on, std::vector<std::string>{"any"});
  EXPECT_EQ(notify.webhook, "https://example.com/x");
  EXPECT_EQ(notify.timeout, Milliseconds(500));
  EXPECT_EQ(notify.retries, 0);
  EXPECT_EQ(notify.bearer_token_file, "/a/token");
}

TEST(Settings, Merge_key_by_key_in_the_order_node_confd_appsd) {
  const Node node;
  node.write("node.toml",
             "[limits]\nmax_watch = \"1m\"\nmin_free_bytes = 1\nmax_release_bytes = 1\n"
             "[run]\nenvironment = { A = \"node\", B = \"node\" }\n");
  node.write("conf.d/20-b.toml", "[limits]\nmin_free_bytes = 20\n");
  node.write("conf.d/10-a.toml", "[limits]\nmin_free_bytes = 10\nmax_release_bytes = 10\n");
  node.write("apps.d/shop.toml",
             "[limits]\nmax_release_bytes = 99\n[run]\nenvironment.B = \"app\"\n");
  node.write("apps.d/other.toml", "[limits]\nmax_release_bytes = 1000\n");
  const auto settings = node.load("shop");
  ASSERT_TRUE(settings) << settings.error().line();
  EXPECT_EQ(settings->app.max_watch, Milliseconds(60'000));
  EXPECT_EQ(settings->app.min_free_bytes, 20U);
  EXPECT_EQ(settings->app.max_release_bytes, 99U);
  EXPECT_EQ(settings->app.environment,
            (std::map<std::string, std::string>{{"A", "node"}, {"B", "app"}}));
  EXPECT_EQ(settings->sources, (std::vector<std::string>{
                                   node.file("node.toml"), node.file("conf.d/10-a.toml"),
                                   node.file("conf.d/20-b.toml"), node.file("apps.d/shop.toml")}));
  EXPECT_EQ(node.load().value().app.max_release_bytes, 10U);
}

TEST(Settings, Replace_lists_and_take_back_texts) {
  const Node node;
  node.write("node.toml", "[run]\nuser = \"a\"\n[allow]\nusers = [\"a\", \"b\"]\n");
  node.write("apps.d/shop.toml", "[run]\nuser = \"\"\n[allow]\nusers = [\"c\"]\n");
  const auto settings = node.load("shop");
  ASSERT_TRUE(settings) << settings.error().line();
  EXPECT_EQ(settings->app.user, std::nullopt);
  EXPECT_EQ(settings->app.allowed_users, std::vector<std::string>{"c"});
}

TEST(Settings, Merge_addresses_and_limits_by_name_and_take_addresses_back) {
  const Node node;
  node.write("node.toml",
             "[run]\nlisteners = { a = \"tcp:127.0.0.1:1\", b = \"tcp:127.0.0.1:2\" }\n"
             "rlimits = { nofile = 100, core = 1 }\n[allow]\naddresses = [\"tcp:*:80\"]\n");
  node.write("apps.d/shop.toml",
             "[run]\nlisteners = { a = \"\", c = \"unix:@c\" }\nrlimits.nofile = 200\n"
             "[allow]\naddresses = []\n");
  const auto settings = node.load("shop");
  ASSERT_TRUE(settings) << settings.error().line();
  EXPECT_EQ(settings->app.listeners,
            (std::map<std::string, std::string>{{"b", "tcp:127.0.0.1:2"}, {"c", "unix:@c"}}));
  EXPECT_EQ(settings->app.rlimits,
            (std::map<std::string, std::uint64_t>{{"core", 1}, {"nofile", 200}}));
  EXPECT_TRUE(settings->app.allowed_addresses.empty());
}

TEST(Settings, Add_up_notifications_of_all_files) {
  const Node node;
  node.write("node.toml",
             "[[notify]]\nname = \"a\"\ncommand = [\"/bin/a\", \"\"]\n"
             "[[notify]]\nname = \"b\"\nwebhook = \"http://localhost/\"\n");
  node.write("apps.d/shop.toml", "[[notify]]\nname = \"c\"\ncommand = [\"c\"]\n");
  const auto settings = node.load("shop");
  ASSERT_TRUE(settings) << settings.error().line();
  ASSERT_EQ(settings->notifications.size(), 3U);
  EXPECT_EQ(settings->notifications[0].command, (std::vector<std::string>{"/bin/a", ""}));
  EXPECT_EQ(settings->notifications[2].name, "c");
  const std::vector<std::string> usual = {"rolled_back", "rollback_failed"};
  EXPECT_EQ(settings->notifications[2].on, usual);
  EXPECT_EQ(node.load().value().notifications.size(), 2U);
}

TEST(Settings, Ignore_hidden_and_other_files_of_confd) {
  const Node node;
  node.write("conf.d/README", "[[[");
  node.write("conf.d/.10.toml", "[[[");
  node.write("conf.d/a.toml~", "[[[");
  EXPECT_TRUE(node.load());
}

TEST(Settings, With_config_read_that_file_and_the_folders_beside_it) {
  const Node node;
  node.write("node.toml", "node_name = \"not-this\"\n");
  std::filesystem::create_directories(node.root() + "/other/conf.d");
  const std::string file = node.root() + "/other/mine.toml";
  std::ofstream(file) << "node_name = \"this\"\n";
  std::ofstream(node.root() + "/other/conf.d/a.toml") << "[trust]\nthreshold = 3\n";
  const auto settings = load(node.layout(), file, "");
  ASSERT_TRUE(settings) << settings.error().line();
  EXPECT_EQ(settings->node_name, "this");
  EXPECT_EQ(settings->app.threshold, 3);
  EXPECT_INVALID(load(node.layout(), node.root() + "/other/none.toml", ""));
}

TEST(Refusals, Of_an_unknown_key_say_what_was_meant_and_where) {
  const Node node;
  const auto settings = node.load_text("[fetch]\n\nconect_timeout = \"1s\"\n");
  EXPECT_INVALID(settings);
  EXPECT_EQ(settings.error().message(),
            "'" + node.file("node.toml") + "' line 3: unknown key 'fetch.conect_timeout'");
  EXPECT_EQ(settings.error().hint(), "did you mean 'fetch.connect_timeout'?");
}

TEST(Refusals, Of_unknown_keys_suggest_tables_other_tables_and_notify_keys) {
  const Node node;
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"[fetsh]\n", "did you mean 'fetch'?"},
      {"[run]\nthreshold = 1\n", "did you mean 'trust.threshold'?"},
      {"threshold = 1\n", "did you mean 'trust.threshold'?"},
      {"[[notify]]\nwebhok = \"x\"\n", "did you mean 'notify.webhook'?"},
      {"nodename = \"x\"\n", "did you mean 'node_name'?"},
      {"[something.completely.different]\n", "docs/configuration.md lists every key"},
  };
  for (const auto& [text, hint] : cases) {
    const auto settings = node.load_text(text);
    EXPECT_INVALID(settings);
    EXPECT_EQ(settings.error().hint(), hint) << text;
  }
}

struct WrongValue {
  const char* text;
  const char* expected;
  const char* got;
};

TEST(Refusals, Of_a_wrong_value_say_what_was_expected_and_what_was_there) {
  const Node node;
  const std::vector<WrongValue> cases = {
      {"node_name = 5", "text", "5"},
      {"node_name = \"a\\nb\"", "text", "\"a\nb\""},
      {"fetch.connect_timeout = \"fast\"", "duration, 100ms to 10m, as \"30s\" or \"1h30m\"",
       "\"fast\""},
      {"fetch.connect_timeout = 30", "duration, 100ms to 10m, as \"30s\" or \"1h30m\"", "30"},
      {"fetch.connect_timeout = \"1h\"", "duration, 100ms to 10m, as \"30s\" or \"1h30m\"",
       "\"1h\""},
      {"fetch.max_artifact_bytes = \"1 GB\"", "size, 1 to 16TiB, as 1048576 or \"64MiB\"",
       "\"1 GB\""},
      {"fetch.max_artifact_bytes = -1", "size, 1 to 16TiB, as 1048576 or \"64MiB\"", "-1"},
      {"fetch.max_artifact_bytes = 1.5", "size, 1 to 16TiB, as 1048576 or \"64MiB\"",
       "a number with a fraction"},
      {"fetch.ca_file = \"ca.pem\"", "absolute path", "\"ca.pem\""},
      {"fetch.netrc = \"yes\"", "true or false", "\"yes\""},
      {"fetch = 1", "[fetch]", "no table"},
      {"trust.threshold = 0", "integer, 1 to 16", "0"},
      {"trust.threshold = 17", "integer, 1 to 16", "17"},
      {"trust.threshold = \"1\"", "integer, 1 to 16", "\"1\""},
      {"trust.threshold = 9223372036854775807", "integer, 1 to 16", "9223372036854775807"},
      {"trust.threshold = { a = 1 }", "integer, 1 to 16", "a table"},
      {"run.user = \"a b\"", "a user's or group's name", "\"a b\""},
      {"run.environment = [\"A=b\"]", "table of NAME = \"value\"", "a list"},
      {"run.environment.A = 1", "table of NAME = \"value\"", "an integer"},
      {"run.environment.\"A-B\" = \"x\"", "letters, digits and '_', no digit in front", "'A-B'"},
      {"run.environment_files = \"/a\"", "list of absolute paths", "\"/a\""},
      {"run.environment_files = [\"a\"]", "list of absolute paths", "\"a\""},
      {"allow.users = [\"root\"]", "a list of user names or \"*\"; for root set allow.root = true",
       "\"root\""},
      {"allow.users = [1]", "a list of user names or \"*\"; for root set allow.root = true", "1"},
      {"allow.users = [\"\"]", "a list of user names or \"*\"; for root set allow.root = true",
       "\"\""},
      {"allow.groups = [\"*\"]", "list of group names", "\"*\""},
      {"allow.capabilities = [\"CAP_NET_BIND\"]", "a list of names as \"CAP_NET_BIND_SERVICE\"",
       "\"CAP_NET_BIND\""},
      {"allow.addresses = [\"tcp:80\"]",
       "a list of patterns as \"tcp:*:80\", \"udp:127.0.0.1:*\", \"tcp:*:8000-8099\", "
       "\"unix:/run/shop/*\" or \"unix:@shop\"",
       "\"tcp:80\""},
      {"run.listeners = { http = \"tcp:localhost:80\" }",
       "tcp:HOST:PORT or udp:HOST:PORT with a numeric HOST ([V6] in brackets), unix:/PATH or "
       "unix:@NAME",
       "'tcp:localhost:80'"},
      {"run.listeners = { \"a:b\" = \"unix:@a\" }", "letters, digits, '.', '_' and '-'", "'a:b'"},
      {"run.listeners = { a = 80 }", "table of NAME = \"address\"", "80"},
      {"run.rlimits = { nofiles = 80 }",
       "one of as, core, data, fsize, memlock, nofile, nproc, stack", "'nofiles'"},
      {"run.rlimits = { nofile = 1 }",
       "table of NAME = number, a size as \"64MiB\" or \"unlimited\"; nofile 64 to 1073741824",
       "1"},
      {"run.rlimits = { stack = -1 }",
       "table of NAME = number, a size as \"64MiB\" or \"unlimited\"; nofile 64 to 1073741824",
       "-1"},
      {"run.rlimits = [1]",
       "table of NAME = number, a size as \"64MiB\" or \"unlimited\"; nofile 64 to 1073741824",
       "a list"},
      {"run.max_generations = 1", "integer, 2 to 16", "1"},
      {"run.max_generations = 17", "integer, 2 to 16", "17"},
      {"limits.max_drain_timeout = \"25h\"", "duration, 0s to 1d, as \"30s\" or \"1h30m\"",
       "\"25h\""},
      {"audit.keep = 2024-01-01", "duration, 1d to 3650d, as \"30s\" or \"1h30m\"",
       "a date or time"},
      {"[[notify]]\nname = \"a\"\nwebhook = \"ftp://x\"", "http or https URL", "\"ftp://x\""},
      {"[[notify]]\nname = \"a\"\ncommand = [\"\"]", "list of words", "a list"},
      {"[[notify]]\nname = \"a\"\non = [\"rolledback\"]",
       "a list of committed, rolled_back, rollback_failed, aborted, refused, unchanged, any",
       "\"rolledback\""},
      {"[notify]\nname = \"a\"", "[[notify]]", "[notify]"},
      {"notify = 1", "[[notify]]", "something else"},
  };
  for (const WrongValue& one : cases) {
    const auto settings = node.load_text(one.text);
    SCOPED_TRACE(one.text);
    EXPECT_INVALID(settings);
    EXPECT_EQ(settings.error().expected(), one.expected) << one.text;
    EXPECT_EQ(settings.error().got(), one.got) << one.text;
    EXPECT_NE(settings.error().message().find("' line "), std::string::npos) << one.text;
  }
}

TEST(Refusals, Never_show_a_value_of_the_environment) {
  const Node node;
  for (const char* text : {"run.environment = \"secret\"", "run.environment.A = [\"secret\"]"}) {
    const auto settings = node.load_text(text);
    EXPECT_INVALID(settings);
    EXPECT_EQ(settings.error().line().find("secret"), std::string::npos);
  }
}

TEST(Refusals, Of_incomplete_or_contradicting_notifications) {
  const Node node;
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"command = [\"a\"]", "without a name"},
      {"name = \"a\"", "needs one way to tell"},
      {"name = \"a\"\ncommand = [\"a\"]\nwebhook = \"http://a\"", "needs one way to tell"},
      {"name = \"a\"\ncommand = [\"a\"]\non = []", "tells nothing"},
      {"name = \"a\"\ncommand = [\"a\"]\nbearer_token_file = \"/t\"", "without a webhook"},
      {"name = \"a\"\ncommand = [\"a\"]\n[[notify]]\nname = \"a\"\ncommand = [\"b\"]",
       "stands twice"},
  };
  for (const auto& [text, message] : cases) {
    const auto settings = node.load_text("[[notify]]\n" + text + "\n");
    EXPECT_INVALID(settings);
    EXPECT_NE(settings.error().message().find(message), std::string::npos)
        << settings.error().line();
  }
}

TEST(Refusals, Of_more_notifications_than_a_deployment_can_wait_for) {
  const Node node;
  std::string text;
  for (int i = 0; i < 17; ++i)
    text += "[[notify]]\nname = \"" + std::to_string(i) + "\"\ncommand = [\"a\"]\n";
  const auto settings = node.load_text(text);
  EXPECT_INVALID(settings);
  EXPECT_EQ(settings.error().expected(), "at most 16");
}

TEST(Refusals, Of_keys_that_only_fit_together) {
  const Node node;
  EXPECT_INVALID(node.load_text("fetch.client_key = \"/k\""));
  EXPECT_INVALID(node.load_text("fetch.netrc_file = \"/n\""));
  EXPECT_INVALID(node.load_text("run.default_user = \"\""));
}

TEST(Refusals, Of_a_node_key_in_a_file_of_an_app_say_where_it_belongs) {
  const Node node;
  node.write("apps.d/shop.toml", "[fetch]\nca_file = \"/x\"\n");
  const auto settings = node.load("shop");
  EXPECT_INVALID(settings);
  EXPECT_NE(settings.error().message().find("setting of the whole node"), std::string::npos);
  EXPECT_EQ(settings.error().hint(), "put it into node.toml or a file of conf.d");
}

TEST(Refusals, Of_broken_TOML_name_file_and_line) {
  const Node node;
  for (const char* text : {"[fetch]\nca_file = \"x\n", "[fetch]\na = = 1\n", "a = 1\na = 2\n"}) {
    const auto settings = node.load_text(text);
    EXPECT_INVALID(settings);
    EXPECT_TRUE(settings.error().message().starts_with("'" + node.file("node.toml") + "' line 2: "))
        << settings.error().line();
    EXPECT_FALSE(settings.error().got().empty());
  }
}

TEST(Refusals, Of_a_file_that_others_may_write_give_the_chmod_line) {
  const Node node;
  for (const char* name : {"node.toml", "conf.d/a.toml", "apps.d/shop.toml"}) {
    node.write(name, "", 0664);
    const auto settings = node.load("shop");
    EXPECT_INVALID(settings);
    EXPECT_EQ(settings.error().got(), "mode 0664");
    EXPECT_EQ(settings.error().hint(), "chmod go-w " + node.file(name));
    ::chmod(node.file(name).c_str(), 0640);
    EXPECT_TRUE(node.load("shop"));
  }
}

TEST(Refusals, Of_a_folder_that_others_may_write) {
  const Node node;
  for (const char* name : {"", "conf.d", "apps.d"}) {
    const std::string folder = node.root() + "/etc" + (*name == 0 ? "" : "/") + name;
    ::chmod(folder.c_str(), 0777);
    const auto settings = node.load("shop");
    EXPECT_INVALID(settings);
    EXPECT_EQ(settings.error().hint(), "chmod go-w " + folder);
    ::chmod(folder.c_str(), 0755);
  }
}

TEST(Refusals, Of_a_file_of_someone_else) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give files away";
  const Node node;
  node.write("conf.d/a.toml", "");
  ASSERT_EQ(::chown(node.file("conf.d/a.toml").c_str(), 12345, 0), 0);
  const auto settings = node.load();
  EXPECT_INVALID(settings);
  EXPECT_EQ(settings.error().got(), "owner uid 12345");
}

TEST(Refusals, Of_what_is_no_file_or_too_much) {
  const Node node;
  ASSERT_EQ(::mkfifo(node.file("conf.d/a.toml").c_str(), 0600), 0);
  EXPECT_INVALID(node.load());
  std::filesystem::remove(node.file("conf.d/a.toml"));
  std::filesystem::create_symlink("/nonexistent.toml", node.file("conf.d/a.toml"));
  EXPECT_INVALID(node.load());
  std::filesystem::remove(node.file("conf.d/a.toml"));
  EXPECT_INVALID(node.load_text(std::string(kMaxFragmentBytes + 1, '#')));
  node.write("node.toml", "");
  for (std::size_t i = 0; i < kMaxFragments; ++i)
    node.write("conf.d/" + std::to_string(i) + ".toml", "");
  const auto settings = node.load();
  EXPECT_INVALID(settings);
  EXPECT_EQ(settings.error().expected(), "at most 256");
}

TEST(Refusals, Of_an_app_name_that_leaves_the_folder) {
  const Node node;
  for (const char* app : {"../node", "..", "a/b", ".hidden"}) {
    const auto settings = node.load(app);
    ASSERT_FALSE(settings) << app;
    EXPECT_EQ(settings.error().code(), base::Code::usage);
  }
}

TEST(LayoutOf, An_app_has_a_runtime_folder) {
  EXPECT_EQ(Layout::for_root(std::nullopt).app_runtime("shop"), "/run/updagent/shop");
  EXPECT_EQ(Layout::for_root("/srv/x").app_runtime("shop"), "/srv/x/run/shop");
}

TEST(LayoutOf, No_root_is_the_system) {
  const Layout layout = Layout::for_root(std::nullopt);
  EXPECT_EQ(layout.state, "/var/lib/updagent");
  EXPECT_EQ(layout.runtime, "/run/updagent");
  EXPECT_EQ(layout.etc, "/etc/updagent");
  EXPECT_EQ(layout.trust(), "/etc/updagent/trust.d");
  EXPECT_FALSE(layout.explicit_root);
}

TEST(LayoutOf, A_root_has_everything_below_it) {
  const Layout layout = Layout::for_root("/srv/node-1//x/../");
  EXPECT_EQ(layout.state, "/srv/node-1");
  EXPECT_EQ(layout.runtime, "/srv/node-1/run");
  EXPECT_EQ(layout.etc, "/srv/node-1/etc");
  EXPECT_EQ(layout.release("shop", "1.0.0"), "/srv/node-1/apps/shop/releases/1.0.0");
  EXPECT_TRUE(layout.explicit_root);
}

TEST(LayoutOf, A_relative_root_is_made_absolute) {
  const std::string here = std::filesystem::current_path();
  EXPECT_EQ(Layout::for_root("node").state, here + "/node");
  EXPECT_EQ(Layout::for_root(".").etc, here + "/etc");
  EXPECT_EQ(Layout::for_root("/").etc, "/etc");
}

TEST(LayoutOf, A_config_file_brings_its_folder) {
  const Layout layout = Layout::for_root("/srv/x", "/opt/conf/node.toml");
  EXPECT_EQ(layout.state, "/srv/x");
  EXPECT_EQ(layout.etc, "/opt/conf");
  EXPECT_EQ(layout.trust(), "/srv/x/etc/trust.d");  // who may release is no matter of a file
}

}  // namespace
}  // namespace updagent::config
