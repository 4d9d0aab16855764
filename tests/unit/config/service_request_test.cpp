#include "agent/config/service_request.hpp"

#include "agent/release/placeholders.hpp"
#include "tests/unit/config/support.hpp"

namespace updagent::config {
namespace {

using namespace test;
using base::Code;
using base::Milliseconds;
using release::Service;
using Names = std::vector<std::string>;

Service service(const Names& addresses = {"tcp:0.0.0.0:8080"}) {
  Service out;
  out.command = {"bin/shop"};
  for (const std::string& address : addresses)
    out.listeners.push_back({.name = "l" + std::to_string(out.listeners.size()),
                             .address = address,
                             .user = {},
                             .group = {}});
  return out;
}

const AppPlace kPlace = {
    .we_are_root = true, .runtime = "/run/updagent/shop", .config_path = "/etc/apps.d/shop.toml"};

base::Status check(const Service& wanted, const AppSettings& settings = {},
                   const AppPlace& place = kPlace) {
  return check_service_request(wanted, settings, place);
}

void expect_privilege(const base::Status& status, const std::string& expected,
                      const std::string& got, const std::string& hint) {
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code(), Code::privilege);
  EXPECT_EQ(status.error().exit(), base::Exit::refused);
  EXPECT_EQ(status.error().expected(), expected);
  EXPECT_EQ(status.error().got(), got);
  EXPECT_EQ(status.error().hint(), hint);
}

TEST(ServiceRequest, Of_unprivileged_ports_and_the_apps_own_folder_is_granted) {
  EXPECT_TRUE(check(service({"tcp:0.0.0.0:1024", "tcp:[::]:65535", "udp:127.0.0.1:8443",
                             "unix:/run/updagent/shop/http", "unix:/run/updagent/shop/a/b"})));
  EXPECT_TRUE(check(service({})));
}

TEST(ServiceRequest, Of_other_addresses_is_refused_with_the_line_that_allows_them_all) {
  expect_privilege(check(service({"tcp:0.0.0.0:80", "tcp:0.0.0.0:8080", "unix:/run/shop/http"})),
                   "only tcp:*:1024-65535, udp:*:1024-65535", "tcp:0.0.0.0:80, unix:/run/shop/http",
                   "allow it with [allow] addresses = [\"tcp:*:1024-65535\", \"udp:*:1024-65535\", "
                   "\"tcp:0.0.0.0:80\", \"unix:/run/shop/http\"] in /etc/apps.d/shop.toml");
  for (const std::string address :
       {"tcp:0.0.0.0:1023", "udp:[::]:443", "unix:@shop", "unix:/run/systemd/notify",
        "unix:/run/updagent/shop", "unix:/run/updagent/shop2/x", "unix:/run/updagent/shop.sock"})
    EXPECT_FALSE(check(service({address}))) << address;
}

// The line of a hint, pasted into the file, does what it says.
TEST(ServiceRequest, That_was_refused_is_granted_with_the_line_of_the_hint) {
  Service wanted = service({"tcp:0.0.0.0:80", "unix:@shop", "unix:/run/x"});
  wanted.groups = {"adm", "ssl-cert"};
  wanted.capabilities = {"CAP_CHOWN", "CAP_KILL"};
  const Node node;
  AppSettings settings;
  std::string file;
  for (int refusals = 0; refusals < 3; ++refusals) {
    const auto status = check(wanted, settings);
    ASSERT_FALSE(status.has_value());
    const std::string hint = status.error().hint();
    const std::size_t from = hint.find("[allow] ") + 8;
    file += "allow." + hint.substr(from, hint.find(" in /etc") - from) + "\n";
    const auto loaded = node.load_text(file);
    ASSERT_TRUE(loaded) << loaded.error().line();
    settings = loaded->app;
  }
  const auto status = check(wanted, settings);
  EXPECT_TRUE(status) << status.error().line();
}

TEST(ServiceRequest, Is_bound_by_a_narrower_list) {
  AppSettings settings;
  settings.allowed_addresses = {"tcp:127.0.0.1:8080"};
  EXPECT_TRUE(check(service({"tcp:127.0.0.1:8080"}), settings));
  EXPECT_FALSE(check(service({"tcp:0.0.0.0:8080"}), settings));
  settings.allowed_addresses = {};
  EXPECT_TRUE(check(service({"unix:/run/updagent/shop/x"}), settings));
  expect_privilege(check(service({"tcp:127.0.0.1:8080"}), settings), "none", "tcp:127.0.0.1:8080",
                   "allow it with [allow] addresses = [\"tcp:127.0.0.1:8080\"] in "
                   "/etc/apps.d/shop.toml");
}

TEST(ServiceRequest, Of_an_address_that_the_node_replaces_is_no_request) {
  AppSettings settings;
  settings.listeners = {{"l0", "tcp:10.0.0.5:443"}};
  EXPECT_TRUE(check(service({"tcp:0.0.0.0:80"}), settings));
  EXPECT_FALSE(check(service({"tcp:0.0.0.0:80", "tcp:0.0.0.0:81"}), settings));
}

TEST(ServiceRequest, Of_groups_and_capabilities_needs_each_by_name) {
  Service wanted = service();
  wanted.groups = {"adm", "docker"};
  AppSettings settings;
  settings.allowed_groups = {"adm"};
  expect_privilege(check(wanted, settings), "only adm", "docker",
                   "allow it with [allow] groups = [\"adm\", \"docker\"] in /etc/apps.d/shop.toml");
  wanted.groups = {"adm"};
  EXPECT_TRUE(check(wanted, settings));
  wanted.capabilities = {"CAP_NET_BIND_SERVICE"};
  expect_privilege(check(wanted, settings), "none", "CAP_NET_BIND_SERVICE",
                   "allow it with [allow] capabilities = [\"CAP_NET_BIND_SERVICE\"] in "
                   "/etc/apps.d/shop.toml");
  settings.allowed_capabilities = {"CAP_NET_BIND_SERVICE"};
  EXPECT_TRUE(check(wanted, settings));
}

TEST(ServiceRequest, Of_what_only_root_can_give_is_refused_to_others) {
  AppPlace place = kPlace;
  place.we_are_root = false;
  AppSettings settings;
  settings.allowed_groups = {"adm"};
  Service wanted = service();
  EXPECT_TRUE(check(wanted, settings, place));
  wanted.groups = {"adm"};
  expect_privilege(check(wanted, settings, place),
                   "none: updagent does not run as root here, and can't give them", "adm",
                   "run updagent as root");
}

// --- what will run ----------------------------------------------------------------------------

release::ResolvedService known() {
  release::ResolvedService out;
  out.app = "shop";
  out.version = "1.4.2";
  out.strategy = "handoff";
  out.release = "/r";
  out.data = "/d";
  out.cache = "/c";
  out.runtime = "/run/updagent/shop";
  out.user = "shop";
  return out;
}

using Change = std::tuple<std::string, std::string, std::string>;
std::vector<Change> changes(const ServiceResolution& resolution) {
  std::vector<Change> out;
  for (const ServiceChange& change : resolution.changes)
    out.emplace_back(change.key, change.by_release, change.here);
  return out;
}

ServiceResolution resolve(const Service& wanted, const AppSettings& settings,
                          const release::Variables& environment = {}) {
  auto resolution = resolve_service(wanted, environment, known(), settings);
  EXPECT_TRUE(resolution) << resolution.error().line();
  return resolution ? std::move(*resolution) : ServiceResolution();
}

TEST(Resolution, Without_settings_is_what_the_release_says) {
  const Service wanted = service();
  const release::Variables environment = {{"A", "{data}"}};
  const ServiceResolution resolution = resolve(wanted, AppSettings(), environment);
  EXPECT_EQ(resolution.run.service, wanted);
  EXPECT_EQ(resolution.run.environment, environment);
  EXPECT_EQ(resolution.run.user, "shop");
  EXPECT_EQ(resolution.run.release, "/r");
  EXPECT_EQ(resolution.run.max_generations, 4);
  EXPECT_EQ(resolution.run.memory_reserve, 64U << 20);
  EXPECT_FALSE(resolution.run.allow_io_uring);
  EXPECT_TRUE(resolution.changes.empty());
  EXPECT_TRUE(resolution.unused_listeners.empty());
  const auto text = release::resolved_service_to_json(resolution.run, Code::internal);
  ASSERT_TRUE(text) << text.error().line();
  EXPECT_EQ(release::resolved_service_from_json(*text, Code::internal).value(), resolution.run);
}

TEST(Resolution, Has_the_nodes_addresses_and_names_those_that_it_has_no_use_for) {
  AppSettings settings;
  settings.listeners = {{"l0", "tcp:10.0.0.5:80"}, {"htp", "tcp:10.0.0.5:81"}};
  const ServiceResolution resolution =
      resolve(service({"tcp:0.0.0.0:8080", "udp:0.0.0.0:443"}), settings);
  EXPECT_EQ(resolution.run.service.listeners[0].address, "tcp:10.0.0.5:80");
  EXPECT_EQ(resolution.run.service.listeners[1].address, "udp:0.0.0.0:443");
  EXPECT_EQ(changes(resolution),
            (std::vector<Change>{{"listeners.l0.address", "tcp:0.0.0.0:8080", "tcp:10.0.0.5:80"}}));
  EXPECT_EQ(resolution.unused_listeners, Names{"htp"});
}

TEST(Resolution, At_another_kind_of_address_drops_what_means_nothing_there) {
  Service wanted = service({"unix:/run/updagent/shop/x", "tcp:[::]:8080"});
  wanted.listeners[0].mode = 0666;
  wanted.listeners[0].user = "www";
  wanted.listeners[0].backlog = 7;
  wanted.listeners[1].ipv6_only = true;
  AppSettings settings;
  settings.listeners = {{"l0", "tcp:127.0.0.1:8081"}, {"l1", "tcp:0.0.0.0:8080"}};
  const ServiceResolution resolution = resolve(wanted, settings);
  const auto& listeners = resolution.run.service.listeners;
  EXPECT_EQ(listeners[0].backlog, 7);
  EXPECT_EQ(listeners[0].mode, release::kDefaultSocketMode);
  EXPECT_EQ(listeners[0].user, "");
  EXPECT_FALSE(listeners[1].ipv6_only);
  EXPECT_TRUE(release::resolved_service_to_json(resolution.run, Code::internal));
}

TEST(Resolution, Cuts_how_long_a_worker_may_take_to_stop) {
  Service wanted = service();
  wanted.workers = {{.name = "slow", .command = {"/bin/true"}, .stop_timeout = Milliseconds(9000)},
                    {.name = "fast", .command = {"/bin/true"}, .stop_timeout = Milliseconds(1000)}};
  wanted.stop_timeout = Milliseconds(1000);
  AppSettings settings;
  settings.max_stop_timeout = Milliseconds(2000);
  const ServiceResolution resolution = resolve(wanted, settings);
  EXPECT_EQ(resolution.run.service.workers[0].stop_timeout, Milliseconds(2000));
  EXPECT_EQ(resolution.run.service.workers[1].stop_timeout, Milliseconds(1000));
  EXPECT_EQ(changes(resolution), (std::vector<Change>{{"workers.slow.stop_timeout", "9s", "2s"}}));
}

TEST(Resolution, Has_the_nodes_limits_over_the_releases) {
  Service wanted = service();
  wanted.rlimits = {{"nofile", 1024}, {"core", 0}};
  wanted.ready_timeout = Milliseconds(3'600'000);
  wanted.drain_timeout = Milliseconds(5'000);
  AppSettings settings;
  settings.rlimits = {{"nofile", 65536}, {"memlock", release::kUnlimited}};
  settings.max_drain_timeout = Milliseconds(0);
  settings.max_generations = 7;
  settings.memory_reserve = 5;
  settings.allow_io_uring = true;
  settings.environment_files = {"/etc/x.env"};
  const ServiceResolution resolution = resolve(wanted, settings);
  EXPECT_EQ(resolution.run.service.rlimits,
            (std::map<std::string, std::uint64_t>{
                {"core", 0}, {"memlock", release::kUnlimited}, {"nofile", 65536}}));
  EXPECT_EQ(resolution.run.service.ready_timeout, Milliseconds(600'000));
  EXPECT_EQ(resolution.run.service.drain_timeout, Milliseconds(0));
  EXPECT_EQ(resolution.run.service.stop_timeout, Milliseconds(10'000));
  EXPECT_EQ(resolution.run.max_generations, 7);
  EXPECT_EQ(resolution.run.memory_reserve, 5U);
  EXPECT_TRUE(resolution.run.allow_io_uring);
  EXPECT_EQ(resolution.run.environment_files, Names{"/etc/x.env"});
  EXPECT_EQ(changes(resolution), (std::vector<Change>{{"rlimits.memlock", "", "unlimited"},
                                                      {"rlimits.nofile", "1024", "65536"},
                                                      {"ready_timeout", "3600s", "600s"},
                                                      {"drain_timeout", "5s", "0s"}}));
}

TEST(Resolution, Takes_the_nodes_variables_as_they_are_and_shows_no_value) {
  Service wanted = service();
  wanted.socket_environment = {{"PORT", "{port:l0}"}, {"URL", "{address:l0}"}};
  AppSettings settings;
  settings.environment = {{"MODE", "{data} {{x"}, {"PORT", "1"}};
  const ServiceResolution resolution =
      resolve(wanted, settings, {{"A", "{data}"}, {"MODE", "prod"}});
  EXPECT_EQ(resolution.run.environment,
            (release::Variables{{"A", "{data}"}, {"MODE", "{{data} {{{{x"}, {"PORT", "1"}}));
  EXPECT_EQ(release::expand_template(resolution.run.environment[1].second, "", Code::internal,
                                     [](auto, const auto&) { return std::nullopt; })
                .value(),
            "{data} {{x");
  EXPECT_EQ(resolution.run.service.socket_environment,
            (release::Variables{{"URL", "{address:l0}"}}));
  EXPECT_EQ(changes(resolution),
            (std::vector<Change>{{"environment.MODE", "", ""}, {"environment.PORT", "", ""}}));
}

TEST(Resolution, That_does_not_fit_together_is_the_nodes_fault) {
  AppSettings settings;
  settings.listeners = {{"l0", "tcp:127.0.0.1:9"}, {"l1", "tcp:127.0.0.1:9"}};
  const auto twice =
      resolve_service(service({"tcp:127.0.0.1:7777", "tcp:127.0.0.1:8888"}), {}, known(), settings);
  EXPECT_INVALID(twice);
  EXPECT_EQ(twice.error().line(),
            "the release with this node's [run] settings: service.listeners[1].address is not "
            "valid (expected an address of its own, got 'tcp:127.0.0.1:9')");
  Service wanted = service();
  wanted.command.emplace_back("{port:l0}");
  settings.listeners = {{"l0", "unix:/run/x"}};
  EXPECT_INVALID(resolve_service(wanted, {}, known(), settings));
}

}  // namespace
}  // namespace updagent::config
