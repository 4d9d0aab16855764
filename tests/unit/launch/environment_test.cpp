#include "agent/launch/environment.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>

namespace updagent::launch {
namespace {

ServiceSituation shop(Protocol protocol = Protocol::systemd) {
  ServiceSituation situation;
  situation.protocol = protocol;
  situation.app = "shop";
  situation.version = "1.4.2";
  situation.generation = 7;
  situation.release_directory = "/apps/shop/releases/1.4.2";
  situation.runtime_directory = "/run/updagent/shop/7";
  situation.data_directory = "/apps/shop/data";
  situation.cache_directory = "/apps/shop/cache";
  situation.identity = {"www", 33, 33, {}, "/var/www"};
  situation.listeners = {{"http", "tcp:0.0.0.0:8080"}, {"admin", "unix:/run/shop.sock"}};
  return situation;
}

struct Answer {
  std::map<std::string, std::string> variables;
  std::vector<std::string> pids;
  std::string error;
  std::string hint;
};

Answer environment_of(const ServiceSituation& situation) {
  Answer answer;
  const auto environment = service_environment(situation);
  if (!environment) {
    EXPECT_EQ(environment.error().code(), base::Code::config_invalid);
    answer.error = environment.error().line();
    answer.hint = environment.error().hint();
    return answer;
  }
  EXPECT_TRUE(std::is_sorted(environment->variables.begin(), environment->variables.end()));
  for (const std::string& entry : environment->variables) {
    const std::size_t equals = entry.find('=');
    answer.variables[entry.substr(0, equals)] = entry.substr(equals + 1);
  }
  answer.pids = environment->pid_variables;
  return answer;
}

std::string expanded(const std::string& text, Protocol protocol = Protocol::systemd) {
  const auto command = service_command({"bin/{fd}", text}, shop(protocol));
  EXPECT_TRUE(!command || command->front() == "bin/{fd}") << "the program stands as it is";
  return command ? command->back() : command.error().line() + " | " + command.error().hint();
}

TEST(Environment, Of_a_service_without_any_wish_is_this) {
  ServiceSituation situation = shop(Protocol::inject);
  const Answer answer = environment_of(situation);
  const std::map<std::string, std::string> expected = {
      {"CACHE_DIRECTORY", "/apps/shop/cache"},
      {"HOME", "/var/www"},
      {"LANG", "C.UTF-8"},
      {"LOGNAME", "www"},
      {"PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
      {"RUNTIME_DIRECTORY", "/run/updagent/shop/7"},
      {"STATE_DIRECTORY", "/apps/shop/data"},
      {"UPDAGENT_APP", "shop"},
      {"UPDAGENT_GENERATION", "7"},
      {"UPDAGENT_RELEASE_DIRECTORY", "/apps/shop/releases/1.4.2"},
      {"UPDAGENT_VERSION", "1.4.2"},
      {"USER", "www"}};
  EXPECT_EQ(answer.variables, expected);
  EXPECT_TRUE(answer.pids.empty());
}

TEST(Environment, Systemd_names_listeners_and_then_what_the_store_holds) {
  ServiceSituation situation = shop();
  situation.stored = {"counter", "conn-7"};
  situation.notify_socket = "/run/updagent/shop/7/notify";
  situation.watchdog_usec = 5'000'000;
  situation.fdstore_max = 128;
  situation.journal_stream = "8:1234";
  situation.role_file = "/run/updagent/shop/7/role";
  const Answer answer = environment_of(situation);
  EXPECT_EQ(answer.variables.at("LISTEN_FDS"), "4");
  EXPECT_EQ(answer.variables.at("LISTEN_FDNAMES"), "http:admin:counter:conn-7");
  EXPECT_EQ(answer.variables.at("NOTIFY_SOCKET"), "/run/updagent/shop/7/notify");
  EXPECT_EQ(answer.variables.at("WATCHDOG_USEC"), "5000000");
  EXPECT_EQ(answer.variables.at("FDSTORE"), "128");
  EXPECT_EQ(answer.variables.at("JOURNAL_STREAM"), "8:1234");
  EXPECT_EQ(answer.variables.at("UPDAGENT_ROLE_FILE"), "/run/updagent/shop/7/role");
  EXPECT_EQ(answer.pids, (std::vector<std::string>{"LISTEN_PID", "WATCHDOG_PID"}));
}

TEST(Environment, A_worker_is_told_which_one_it_is) {
  ServiceSituation situation = shop();
  situation.listeners.clear();
  situation.worker = "mail";
  situation.variables = {{"UPDAGENT_WORKER", "another"}};
  EXPECT_EQ(environment_of(situation).variables.at("UPDAGENT_WORKER"), "mail");
}

TEST(Environment, Systemd_says_nothing_when_there_is_nothing_to_pass) {
  ServiceSituation situation = shop();
  situation.listeners.clear();
  const Answer answer = environment_of(situation);
  EXPECT_FALSE(answer.variables.contains("LISTEN_FDS"));
  EXPECT_FALSE(answer.variables.contains("LISTEN_FDNAMES"));
  EXPECT_TRUE(answer.pids.empty());
}

TEST(Environment, Nginx_gets_its_own_list_and_no_other) {
  const Answer answer = environment_of(shop(Protocol::nginx));
  EXPECT_EQ(answer.variables.at("NGINX"), "3;4;");
  EXPECT_FALSE(answer.variables.contains("LISTEN_FDS"));
  EXPECT_TRUE(answer.pids.empty());
}

TEST(Environment, Env_says_what_the_operator_wrote) {
  ServiceSituation situation = shop(Protocol::env);
  situation.variables = {{"FPM_SOCKETS", "{address:http}={fd:http},{address:admin}={fd:admin}"},
                         {"UNICORN_FD", "{fds}"},
                         {"EINHORN_FD_COUNT", "{count}"},
                         {"SERVER_STARTER_PORT", "{host:http}:{port:http}={fd:http}"},
                         {"LISTEN_FDS", "{count}"}};
  const Answer answer = environment_of(situation);
  EXPECT_EQ(answer.variables.at("FPM_SOCKETS"), "0.0.0.0:8080=3,/run/shop.sock=4");
  EXPECT_EQ(answer.variables.at("UNICORN_FD"), "3,4");
  EXPECT_EQ(answer.variables.at("EINHORN_FD_COUNT"), "2");
  EXPECT_EQ(answer.variables.at("SERVER_STARTER_PORT"), "0.0.0.0:8080=3");
  EXPECT_EQ(answer.variables.at("LISTEN_FDS"), "2");
  EXPECT_TRUE(answer.pids.empty());
}

TEST(Environment, Inject_passes_no_descriptor_and_says_so) {
  ServiceSituation situation = shop(Protocol::inject);
  situation.variables = {{"PORT", "{port:http}"}};
  EXPECT_EQ(environment_of(situation).variables.at("PORT"), "8080");
  situation.variables = {{"SOCKET", "{fd:http}"}};
  const Answer answer = environment_of(situation);
  EXPECT_NE(answer.error.find("unknown placeholder '{fd:http}' in the variable 'SOCKET'"),
            std::string::npos)
      << answer.error;
  EXPECT_NE(answer.hint.find("inject passes no descriptors"), std::string::npos) << answer.hint;
}

TEST(Environment, Later_layers_win_and_secrets_are_taken_as_they_are) {
  ServiceSituation situation = shop();
  situation.variables = {{"MODE", "release"}, {"LANG", "de_DE.UTF-8"}, {"MODE", "node {version}"}};
  situation.secrets = {{"KEY", "{\"json\": 1}"}, {"LANG", "fr_FR.UTF-8"}};
  const Answer answer = environment_of(situation);
  EXPECT_EQ(answer.variables.at("MODE"), "node 1.4.2");
  EXPECT_EQ(answer.variables.at("LANG"), "fr_FR.UTF-8");
  EXPECT_EQ(answer.variables.at("KEY"), "{\"json\": 1}");
  EXPECT_EQ(answer.pids, std::vector<std::string>{"LISTEN_PID"});
}

TEST(Environment, What_hooks_may_not_change_services_may_not_either) {
  ServiceSituation situation = shop();
  situation.variables = {{"UPDAGENT_APP", "other"}, {"STATE_DIRECTORY", "/"}, {"TRACEPARENT", "x"}};
  situation.secrets = {{"UPDAGENT_VERSION", "9"}};
  const Answer answer = environment_of(situation);
  EXPECT_EQ(answer.variables.at("UPDAGENT_APP"), "shop");
  EXPECT_EQ(answer.variables.at("UPDAGENT_VERSION"), "1.4.2");
  EXPECT_EQ(answer.variables.at("STATE_DIRECTORY"), "/apps/shop/data");
  EXPECT_FALSE(answer.variables.contains("TRACEPARENT"));
}

TEST(Environment, What_the_protocol_says_can_t_be_said_by_the_release) {
  ServiceSituation situation = shop();
  situation.notify_socket = "/n";
  for (const char* name : {"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET"}) {
    situation.variables = {{name, "1"}};
    situation.secrets.clear();
    EXPECT_NE(environment_of(situation).error.find("the variable '" + std::string(name) +
                                                   "' is set by the supervisor"),
              std::string::npos);
    std::swap(situation.variables, situation.secrets);
    EXPECT_FALSE(environment_of(situation).error.empty());
  }
  ServiceSituation nginx = shop(Protocol::nginx);
  nginx.variables = {{"NGINX", "9;"}};
  EXPECT_FALSE(environment_of(nginx).error.empty());
}

TEST(Environment, Names_that_would_break_the_lists_are_refused) {
  const auto error_with = [](const std::function<void(ServiceSituation&)>& change) {
    ServiceSituation situation = shop();
    change(situation);
    return environment_of(situation).error;
  };
  EXPECT_NE(error_with([](auto& s) { s.listeners[0].name = "a:b"; }), "");
  EXPECT_NE(error_with([](auto& s) { s.listeners[0].name = ""; }), "");
  EXPECT_NE(error_with([](auto& s) { s.listeners[0].name = "a\n"; }), "");
  EXPECT_NE(error_with([](auto& s) { s.listeners[1].name = "http"; }), "");
  EXPECT_NE(error_with([](auto& s) { s.stored = {std::string(256, 'x')}; }), "");
  EXPECT_NE(error_with([](auto& s) { s.variables = {{"A=B", "1"}}; }), "");
  EXPECT_NE(error_with([](auto& s) { s.variables = {{"1A", "1"}}; }), "");
  EXPECT_NE(error_with([](auto& s) { s.secrets = {{"", "1"}}; }), "");
  EXPECT_NE(error_with([](auto& s) {
              s.protocol = Protocol::env;
              s.stored = {"counter"};
            }).find("protocol systemd only"),
            std::string::npos);
}

TEST(Environment, The_command_knows_the_same_placeholders) {
  EXPECT_EQ(expanded("{release}/bin/shop"), "/apps/shop/releases/1.4.2/bin/shop");
  EXPECT_EQ(expanded("--pid={runtime_dir}/shop.pid"), "--pid=/run/updagent/shop/7/shop.pid");
  EXPECT_EQ(expanded("{version}-{generation}-{data}"), "1.4.2-7-/apps/shop/data");
  EXPECT_EQ(expanded("fd@{fd:admin}"), "fd@4");
  EXPECT_EQ(expanded("{\"a\": {count}, \"b\": {}}"), "{\"a\": 2, \"b\": {}}");
  EXPECT_EQ(expanded("${HOME} } {1}"), "${HOME} } {1}");
  EXPECT_EQ(expanded("{{release} {{{release}"), "{release} {/apps/shop/releases/1.4.2");
}

TEST(Environment, Six_colons_of_an_address_are_its_host) {
  ServiceSituation situation = shop(Protocol::env);
  situation.listeners = {{"six", "tcp:[::]:443"}, {"name", "unix:@shop"}};
  situation.variables = {{"A", "{host:six} {port:six} {address:six} {address:name}"}};
  EXPECT_EQ(environment_of(situation).variables.at("A"), ":: 443 [::]:443 @shop");
  situation.variables = {{"A", "{port:name}"}};
  EXPECT_NE(environment_of(situation).hint.find("no tcp or udp listener"), std::string::npos);
}

TEST(Environment, A_placeholder_that_isn_t_known_is_refused_with_the_nearest_one) {
  EXPECT_EQ(
      expanded("x{relase}"),
      "unknown placeholder '{relase}' in word 2 of the command (expected one of {address:admin} "
      "{address:http} {count} {data} {fd:admin} {fd:http} {fds} {generation} {host:http} "
      "{port:http} {release} {runtime_dir} {version}) | did you mean '{release}'?");
  EXPECT_NE(expanded("{q}").find("write '{{' for a brace"), std::string::npos);
  EXPECT_NE(expanded("{release").find("without its '}'"), std::string::npos);
}

}  // namespace
}  // namespace updagent::launch
