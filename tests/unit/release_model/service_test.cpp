// [service] of the manifest: its bytes, its reading, its rules.
#include "agent/release/service.hpp"

#include <gtest/gtest.h>

#include "agent/base/strict_json.hpp"
#include "support.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Json;
using testing::expect_error;
using testing::full_handoff_manifest;
using testing::handoff_manifest;
using testing::parse;
using testing::write;

// The manifest `manifest` with its text changed by `edit`.
template <class Edit>
std::string edited(const Manifest& manifest, Edit edit) {
  Json tree = Json::parse(write(manifest));
  edit(tree["service"]);
  return tree.dump();
}

template <class Edit>
void refused(const Manifest& manifest, Edit edit, std::string_view line,
             Code code = Code::manifest_invalid) {
  expect_error(parse(edited(manifest, edit)), code, "manifest: " + std::string(line));
}

// One key of the service.
void refused_key(const Manifest& manifest, const char* key, const Json& value,
                 std::string_view line) {
  refused(manifest, [&](Json& service) { service[key] = value; }, line);
}

// One key of the first listener.
void refused_listener(const char* key, const Json& value, std::string_view line) {
  refused(handoff_manifest(), [&](Json& service) { service["listeners"][0][key] = value; }, line);
}

TEST(Service, Is_written_with_what_a_default_could_change_and_no_more) {
  EXPECT_EQ(write(handoff_manifest()),
            R"({"app":"shop","created":"2024-06-18T17:00:00Z","entries":[],"schema":1,)"
            R"("service":{"command":["/usr/bin/shop"],"drain_timeout_ms":60000,)"
            R"("listeners":[{"address":"tcp:0.0.0.0:8080","name":"http"}],)"
            R"("protocol":"systemd","ready":"notify","ready_timeout_ms":30000,)"
            R"("stop_signal":"SIGTERM","stop_timeout_ms":10000},)"
            R"("strategy":"handoff","version":"1.4.2"})"
            "\n");
}

TEST(Service, Is_written_whole) {
  const std::string text = write(full_handoff_manifest());
  EXPECT_EQ(
      text.substr(text.find(R"("service":)")),
      R"("service":{"allow_shared":true,"capabilities":["CAP_NET_BIND_SERVICE","CAP_CHOWN"],)"
      R"("command":["bin/shop","--fd={fd:http}","--cache={data}/c","{{}"],"drain_timeout_ms":0,)"
      R"("environment":{"HOME_OF_ALL":"{runtime_dir}","JSON":"{\"a\":{\"b\":1}}"},)"
      R"("groups":["ssl-cert","adm"],"listeners":[)"
      R"({"address":"tcp:0.0.0.0:80","backlog":511,"name":"http"},)"
      R"({"address":"tcp:[::]:80","ipv6_only":true,"name":"v6"},)"
      R"({"address":"udp:127.0.0.1:443","name":"h3"},)"
      R"({"address":"unix:/run/shop/fpm.sock","group":"web","mode":"0666","name":"fpm","user":"www-data"},)"
      R"({"address":"unix:@shop","name":"at"}],)"
      R"("on_crash_loop":"rollback","protocol":"env","ready":"probe","ready_timeout_ms":1,)"
      R"("reload_signal":"SIGHUP","rlimits":{"core":0,"memlock":"unlimited","nofile":65536},)"
      R"("socket_environment":{"FPM_SOCKETS":"{address:fpm}={fd:fpm}","H3":"{fd:h3} {host:h3} {port:h3}","V6":"{fd:v6} {fd:at}"},)"
      R"("stop_signal":"SIGQUIT","stop_timeout_ms":86400000,"umask":"0077","user":"shop",)"
      R"("watchdog_ms":1000},"strategy":"handoff","version":"1.4.2"})"
      "\n");
}

TEST(Service, That_was_written_is_read_and_written_the_same) {
  for (const Manifest& manifest : {handoff_manifest(), full_handoff_manifest()}) {
    const std::string text = write(manifest);
    const auto again = parse(text);
    ASSERT_TRUE(again.has_value()) << again.error().line();
    EXPECT_EQ(again->service, manifest.service);
    EXPECT_EQ(again->environment, manifest.environment);
    EXPECT_EQ(write(*again), text);
  }
}

TEST(Service, Of_a_restart_may_have_no_listener) {
  Manifest manifest = handoff_manifest();
  manifest.strategy = "restart";
  EXPECT_OK(parse(write(manifest)));
  manifest.service->listeners.clear();
  EXPECT_OK(parse(write(manifest)));
}

TEST(Service, Is_there_exactly_when_the_strategy_runs_one) {
  for (const std::string strategy : {"handoff", "restart"}) {
    std::string text = testing::text_with_entries("");
    text.replace(text.find("files"), 5, strategy);
    expect_error(parse(text), Code::manifest_invalid,
                 "manifest: service is missing (expected a command, which the strategy '" +
                     strategy + "' runs, got none)");
  }
  expect_error(parse(testing::text_with(R"("service":{"command":["x"]})")), Code::manifest_invalid,
               "manifest: unknown key in service (expected one of environment, user, got "
               "'command')");
  Manifest manifest = handoff_manifest();
  manifest.strategy = "files";
  expect_error(write_manifest(manifest, [](std::string_view) { return base::ok(); }),
               Code::manifest_invalid,
               "service is not valid (expected no process with the strategy 'files', got one)");
}

TEST(Service, Of_a_handoff_needs_a_listener) {
  const auto error =
      parse(edited(handoff_manifest(), [](Json& service) { service.erase("listeners"); }));
  expect_error(error, Code::manifest_invalid,
               "manifest: service.listeners is missing (expected at least one, which the strategy "
               "'handoff' hands over, got none)");
  EXPECT_EQ(error.error().hint(), "a process without a listener is for the strategy 'restart'");
}

TEST(Service, Has_keys_that_must_be_there) {
  for (const std::string key : {"command", "drain_timeout_ms", "protocol", "ready",
                                "ready_timeout_ms", "stop_signal", "stop_timeout_ms"})
    refused(
        handoff_manifest(), [&](Json& service) { service.erase(key); },
        "service." + key + " is missing (expected a value, got none)");
  for (const std::string key : {"address", "name"})
    refused(
        handoff_manifest(), [&](Json& service) { service["listeners"][0].erase(key); },
        "service.listeners[0]." + key + " is missing (expected a value, got none)");
}

TEST(Service, Has_no_keys_that_are_not_known) {
  const auto error =
      parse(edited(handoff_manifest(), [](Json& service) { service["stop_timeout"] = "10s"; }));
  expect_error(
      error, Code::manifest_invalid,
      "manifest: unknown key in service (expected one of allow_shared, capabilities, "
      "command, drain_timeout_ms, environment, groups, listeners, on_crash_loop, "
      "protocol, ready, ready_timeout_ms, reload_signal, rlimits, role_signal, "
      "socket_environment, "
      "stop_signal, stop_timeout_ms, umask, user, watchdog_ms, workers, got 'stop_timeout')");
  EXPECT_EQ(error.error().hint(), "did you mean 'stop_timeout_ms'?");
  refused_listener("proxy", true,
                   "unknown key in service.listeners[0] (expected one of address, backlog, group, "
                   "ipv6_only, mode, name, proxy_protocol, user, got 'proxy')");
}

TEST(Service, Has_values_of_the_right_type) {
  const Manifest manifest = handoff_manifest();
  refused_key(manifest, "command", "x",
              "service.command has the wrong type (expected an array, got a string)");
  refused_key(manifest, "protocol", 1,
              "service.protocol has the wrong type (expected a string, got an integer)");
  refused_key(manifest, "ready_timeout_ms", "30s",
              "service.ready_timeout_ms has the wrong type (expected an integer, got a string)");
  refused_key(manifest, "allow_shared", 1,
              "service.allow_shared has the wrong type (expected true or false, got an integer)");
  refused_key(manifest, "rlimits", Json::array(),
              "service.rlimits has the wrong type (expected an object, got an array)");
  refused_key(manifest, "rlimits", {{"core", true}},
              "service.rlimits.core is not valid (expected a number up to 2^53 or \"unlimited\", "
              "got a boolean)");
  refused_key(manifest, "rlimits", {{"core", "64MiB"}},
              "service.rlimits.core is not valid (expected a number up to 2^53 or \"unlimited\", "
              "got '64MiB')");
  refused_key(manifest, "umask", 18,
              "service.umask has the wrong type (expected a string, got an integer)");
  refused_key(manifest, "listeners", Json::object(),
              "service.listeners has the wrong type (expected an array, got an object)");
  refused_key(manifest, "socket_environment", {{"A", 1}},
              "service.socket_environment.A has the wrong type (expected a string, got an "
              "integer)");
  refused_listener(
      "backlog", "many",
      "service.listeners[0].backlog has the wrong type (expected an integer, got a string)");
}

TEST(Service, Has_words_that_say_what_was_meant) {
  const Manifest manifest = handoff_manifest();
  refused_key(manifest, "protocol", "sytemd",
              "service.protocol is not valid (expected one of env, inject, nginx, systemd, got "
              "'sytemd')");
  refused_key(manifest, "ready", "started",
              "service.ready is not valid (expected one of listening, notify, probe, got "
              "'started')");
  refused_key(manifest, "on_crash_loop", "stop",
              "service.on_crash_loop is not valid (expected one of restart, rollback, got 'stop')");
  for (const std::string signal : {"SIGKILL", "SIGSTOP", "TERM", "15", "", "SIGSEGV"})
    refused_key(manifest, "stop_signal", signal,
                "service.stop_signal is not valid (expected one of SIGHUP, SIGINT, SIGQUIT, "
                "SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, got '" +
                    signal + "')");
  const auto error = parse(
      edited(manifest, [](Json& service) { service["capabilities"] = {"CAP_NET_BIND_SERVCE"}; }));
  ASSERT_FALSE(error.has_value());
  EXPECT_EQ(error.error().message(), "service.capabilities[0] is not valid");
  EXPECT_EQ(error.error().hint(), "did you mean 'CAP_NET_BIND_SERVICE'?");
}

TEST(Service, Has_bounded_numbers) {
  const Manifest manifest = handoff_manifest();
  for (const std::string key : {"ready_timeout_ms", "stop_timeout_ms"}) {
    refused_key(manifest, key.c_str(), 0,
                "service." + key + " is not valid (expected 1 ms to 24 h, got 0 ms)");
    refused_key(manifest, key.c_str(), 86'400'001,
                "service." + key + " is not valid (expected 1 ms to 24 h, got 86400001 ms)");
  }
  refused_key(manifest, "drain_timeout_ms", -1,
              "service.drain_timeout_ms is not valid (expected 0 ms to 24 h, got -1 ms)");
  refused_key(manifest, "watchdog_ms", 999,
              "service.watchdog_ms is not valid (expected 1000 ms to 24 h, got 999 ms)");
  for (const std::string mask : {"22", "00222", "0o22", "0888", "1000", "-022"})
    refused_key(manifest, "umask", mask,
                "service.umask is not valid (expected four octal digits from '0000' to '0777', "
                "got '" +
                    mask + "')");
  refused_key(manifest, "rlimits", {{"nofile", 63}},
              "service.rlimits.nofile is not valid (expected 64 to 1073741824, got 63)");
  refused_key(manifest, "rlimits", {{"nofile", "unlimited"}},
              "service.rlimits.nofile is not valid (expected 64 to 1073741824, got unlimited)");
  refused_key(manifest, "rlimits", {{"stack", -1}},
              "service.rlimits.stack is not valid (expected a number up to 2^53 or "
              "\"unlimited\", got -1)");
  refused_key(manifest, "rlimits", {{"nofiles", 1}},
              "service.rlimits.nofiles is not valid (expected one of as, core, data, fsize, "
              "memlock, nofile, nproc, stack, got 'nofiles')");
}

TEST(Service, Has_bounded_lists) {
  const Manifest manifest = handoff_manifest();
  refused_key(manifest, "groups", std::vector<std::string>(2, "adm"),
              "service.groups is not valid (expected each once, got 'adm' twice)");
  refused_key(manifest, "groups", {"a b"},
              "service.groups[0] is not valid (expected the name of a group, got 'a b')");
  std::vector<std::string> groups;
  for (int i = 0; i < 33; ++i) groups.push_back("g" + std::to_string(i));
  refused_key(manifest, "groups", groups,
              "service.groups is not valid (expected at most 32 groups, got 33)");
  refused_key(manifest, "capabilities", std::vector<std::string>(2, "CAP_KILL"),
              "service.capabilities is not valid (expected each once, got 'CAP_KILL' twice)");
  const auto listeners = [](int count) {
    Json list = Json::array();
    for (int i = 0; i < count; ++i)
      list.push_back({{"name", "l" + std::to_string(i)},
                      {"address", "tcp:127.0.0.1:" + std::to_string(8000 + i)}});
    return list;
  };
  EXPECT_OK(parse(edited(manifest, [&](Json& service) { service["listeners"] = listeners(32); })));
  refused_key(manifest, "listeners", listeners(33),
              "service.listeners is too long (expected at most 32 items, got 33)");
}

TEST(Service, Has_listeners_with_names_that_fit_LISTEN_FDNAMES) {
  for (const std::string name : {"", "a:b", "a b", "-a", ".a", "ä", "stored"})
    refused_listener("name", name,
                     "service.listeners[0].name is not valid (expected 1 to 64 letters, digits, "
                     "'.', '_' and '-', but not 'stored', got '" +
                         name + "')");
}

TEST(Service, Has_listeners_with_addresses) {
  refused_listener("address", "tcp:localhost:80",
                   "service.listeners[0].address is not valid (expected tcp:HOST:PORT or "
                   "udp:HOST:PORT with a numeric HOST ([V6] in brackets), unix:/PATH or "
                   "unix:@NAME, got 'tcp:localhost:80')");
  refused_listener("backlog", 0,
                   "service.listeners[0].backlog is not valid (expected 1 to 65535, got 0)");
  refused_listener("backlog", 65536,
                   "service.listeners[0].backlog is not valid (expected 1 to 65535, got 65536)");
}

TEST(Service, Has_listeners_without_keys_that_mean_nothing_for_them) {
  refused_listener("mode", "0660",
                   "service.listeners[0].mode is not valid (expected no such key but for a unix "
                   "path, got 'mode' with 'tcp:0.0.0.0:8080')");
  refused_listener("user", "x",
                   "service.listeners[0].user is not valid (expected no such key but for a unix "
                   "path, got 'user' with 'tcp:0.0.0.0:8080')");
  refused_listener("ipv6_only", false,
                   "service.listeners[0].ipv6_only is not valid (expected no such key but for an "
                   "IPv6 address, got 'ipv6_only' with 'tcp:0.0.0.0:8080')");
  refused(
      handoff_manifest(),
      [](Json& service) {
        service["ready"] = "notify";
        service["listeners"][0] = {{"name", "q"}, {"address", "udp:0.0.0.0:1"}, {"backlog", 9}};
      },
      "service.listeners[0].backlog is not valid (expected no such key but for tcp and unix, got "
      "'backlog' with 'udp:0.0.0.0:1')");
}

TEST(Service, Has_listeners_apart_from_each_other) {
  const auto second = [](const std::string& name, const std::string& address) {
    return [=](Json& service) {
      service["listeners"].push_back({{"name", name}, {"address", address}});
    };
  };
  refused(handoff_manifest(), second("http", "tcp:0.0.0.0:1"),
          "service.listeners[1].name is not valid (expected a name of its own, got 'http')");
  refused(handoff_manifest(), second("b", "tcp:0.0.0.0:8080"),
          "service.listeners[1].address is not valid (expected an address of its own, got "
          "'tcp:0.0.0.0:8080')");
  refused(handoff_manifest(), second("b", "tcp:[::]:8080"),
          "service.listeners[1].address is not valid (expected an address of its own: [::] takes "
          "IPv4 too, unless ipv6_only = true, got 'tcp:[::]:8080' beside 'tcp:0.0.0.0:8080')");
  for (const std::string other : {"udp:0.0.0.0:8080", "udp:[::]:8080", "tcp:[::]:8081",
                                  "tcp:127.0.0.1:8080", "tcp:[::1]:8080"})
    EXPECT_OK(parse(edited(handoff_manifest(), second("b", other))));
}

TEST(Service, Of_a_protocol_that_hands_over_has_something_to_hand_over) {
  for (const std::string protocol : {"nginx", "env", "inject"}) {
    Manifest manifest = handoff_manifest();
    manifest.strategy = "restart";
    refused(
        manifest,
        [&](Json& service) {
          service["protocol"] = protocol;
          service["ready"] = "notify";
          service.erase("listeners");
        },
        "service.listeners is missing (expected at least one, for the protocol '" + protocol +
            "', got none)");
  }
}

TEST(Service, Of_the_protocol_env_says_which_descriptor_each_listener_is) {
  refused_key(handoff_manifest(), "protocol", "env",
              "service.socket_environment is not valid (expected '{fd:http}' in it or in the "
              "command: nothing else tells the process which descriptor that listener is, got "
              "none)");
  for (const auto& [key, value] : {std::pair("socket_environment", Json{{"FD", "{fd:http}"}}),
                                   {"command", Json{"/bin/x", "--fd", "{fd:http}"}}})
    EXPECT_OK(parse(edited(handoff_manifest(), [&, &where = key, &what = value](Json& service) {
      service["protocol"] = "env";
      service[where] = what;
    })));
}

TEST(Service, Is_ready_by_something_that_it_has) {
  refused(
      handoff_manifest(),
      [](Json& service) {
        service["ready"] = "listening";
        service["listeners"][0]["address"] = "udp:0.0.0.0:1";
      },
      "service.ready is not valid (expected 'notify' or 'probe', without a tcp or unix listener, "
      "got 'listening')");
  refused_key(handoff_manifest(), "ready", "probe",
              "service.ready is not valid (expected a probe in 'probes', to be ready by, got "
              "none)");
}

TEST(Service, Of_a_restart_has_nothing_to_share) {
  Manifest manifest = handoff_manifest();
  manifest.strategy = "restart";
  refused_key(manifest, "allow_shared", true,
              "service.allow_shared is not valid (expected no such key but with the strategy "
              "'handoff', got 'restart')");
}

TEST(Service, Has_placeholders_that_mean_something_where_they_stand) {
  const auto in_command = [](const std::string& word) {
    return [=](Json& service) { service["command"].push_back(word); };
  };
  for (const std::string good : {"{fd:http}", "{address:http} {host:http} {port:http}",
                                 "{release}{version}{generation}{runtime_dir}{data}", "{{x}"})
    EXPECT_OK(parse(edited(handoff_manifest(), in_command(good))));
  refused(handoff_manifest(), in_command("{fd:htp}"),
          "service.command[1] is not valid (expected a placeholder with the name of a listener, "
          "got '{fd:htp}')");
  const auto error = parse(edited(handoff_manifest(), in_command("{relase}")));
  ASSERT_FALSE(error.has_value());
  EXPECT_EQ(error.error().message(), "service.command[1] has a placeholder that is none");
  refused_key(handoff_manifest(), "environment", {{"A", "{fd:http}"}},
              "service.environment.A is not valid (expected placeholders of listeners in "
              "socket_environment alone, got '{fd:http}')");
  refused(
      handoff_manifest(),
      [](Json& service) {
        service["protocol"] = "inject";
        service["socket_environment"] = {{"A", "{fd:http}"}};
      },
      "service.socket_environment.A is not valid (expected no {fd:NAME} with the protocol "
      "'inject', which hands no descriptor over, got '{fd:http}')");
  refused(
      handoff_manifest(),
      [](Json& service) {
        service["listeners"][0]["address"] = "unix:/run/x";
        service["command"].push_back("{port:http}");
      },
      "service.command[1] is not valid (expected {address:NAME} for a unix listener, which has no "
      "host and no port, got '{port:http}')");
}

TEST(Service, Leaves_braces_of_a_release_that_runs_nothing_alone) {
  EXPECT_OK(parse(testing::text_with(R"("service":{"environment":{"A":"{x} {fd:y}"}})")));
}

TEST(Service, Can_not_set_what_updagent_sets) {
  for (const std::string name : {"LISTEN_FDS", "NOTIFY_SOCKET", "NGINX", "UPDAGENT_APP"})
    refused_key(handoff_manifest(), "socket_environment", {{name, "{port:http}"}},
                "service.socket_environment is not valid (expected no variable that updagent sets "
                "itself, got '" +
                    name + "')");
  refused(
      handoff_manifest(),
      [](Json& service) {
        service["environment"] = {{"PORT", "1"}};
        service["socket_environment"] = {{"PORT", "{port:http}"}};
      },
      "service.socket_environment is not valid (expected no variable that environment has too, "
      "got 'PORT')");
}

}  // namespace
}  // namespace updagent::release
