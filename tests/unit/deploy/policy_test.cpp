// Which release may be installed, as whom, and where the way back leads.
#include "agent/deploy/policy.hpp"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "agent/base/digest.hpp"

namespace updagent::deploy {
namespace {

using base::Code;
using journal::ReleaseState;

trust::Statement offered(const std::string& version, const std::string& contents = "new") {
  trust::Statement statement;
  statement.app = "shop";
  statement.version = version;
  statement.manifest_digest = base::sha256(contents);
  return statement;
}

journal::ReleaseRow kept(const std::string& version, ReleaseState state,
                         const std::string& contents = "old") {
  journal::ReleaseRow row;
  row.app = "shop";
  row.version = version;
  row.state = state;
  row.digest = base::sha256(contents).hex();
  row.trace_id = "4bf92f3577b34da6a3ce929d0e0e4736";
  return row;
}

// 1.4.1 is in service and the newest that ever was.
KnownApp shop() {
  KnownApp known;
  known.links.current = "1.4.1";
  known.links.committed = "1.4.1";
  known.releases = {kept("1.4.1", ReleaseState::good)};
  known.app = journal::AppRow();
  known.app->app = "shop";
  known.app->high_water = "1.4.1";
  return known;
}

release::Manifest manifest_of(const std::string& version) {
  release::Manifest manifest;
  manifest.app = "shop";
  manifest.version = release::parse_semver(version).value();
  return manifest;
}

template <class T>
Code code_of(const base::Result<T>& result) {
  return result ? Code::internal : result.error().code();
}

// --- admit
// ----------------------------------------------------------------------------------------

TEST(Admit, A_newer_release_is_deployed) {
  const auto admission = admit(offered("1.4.2"), shop(), Permissions());
  ASSERT_TRUE(admission) << admission.error().line();
  EXPECT_EQ(*admission, Admission::deploy);
}

TEST(Admit, The_first_release_of_an_app_is_deployed) {
  const auto admission = admit(offered("0.0.1"), KnownApp(), Permissions());
  ASSERT_TRUE(admission) << admission.error().line();
  EXPECT_EQ(*admission, Admission::deploy);
}

TEST(Admit, The_release_that_is_current_and_committed_is_unchanged) {
  KnownApp known = shop();
  known.installed_digest = base::sha256("old");
  const auto admission = admit(offered("1.4.1", "old"), known, Permissions());
  ASSERT_TRUE(admission) << admission.error().line();
  EXPECT_EQ(*admission, Admission::unchanged);
}

TEST(Admit, The_current_release_of_a_held_app_is_unchanged_and_not_refused) {
  KnownApp known = shop();
  known.installed_digest = base::sha256("old");
  known.app->held = true;
  const auto admission = admit(offered("1.4.1", "old"), known, Permissions());
  ASSERT_TRUE(admission) << admission.error().line();
  EXPECT_EQ(*admission, Admission::unchanged);
}

TEST(Admit, A_kept_tree_of_the_same_manifest_is_reused) {
  KnownApp known = shop();
  known.releases.push_back(kept("1.4.2", ReleaseState::staged, "new"));
  known.installed_digest = base::sha256("new");
  const auto admission = admit(offered("1.4.2"), known, Permissions());
  ASSERT_TRUE(admission) << admission.error().line();
  EXPECT_EQ(*admission, Admission::reuse);
}

TEST(Admit, A_current_release_that_was_never_committed_is_tried_again_and_not_unchanged) {
  KnownApp known = shop();
  known.links.current = "1.4.2";
  known.installed_digest = base::sha256("new");
  const auto admission = admit(offered("1.4.2"), known, Permissions());
  ASSERT_TRUE(admission) << admission.error().line();
  EXPECT_EQ(*admission, Admission::reuse);
}

TEST(Admit, Another_app_than_expected_is_refused) {
  Permissions permissions;
  permissions.expected_app = "blog";
  const auto admission = admit(offered("1.4.2"), shop(), permissions);
  ASSERT_EQ(code_of(admission), Code::app_mismatch);
  EXPECT_EQ(admission.error().expected(), "'blog'");
  EXPECT_EQ(admission.error().got(), "'shop'");
}

TEST(Admit, The_expected_app_is_accepted) {
  Permissions permissions;
  permissions.expected_app = "shop";
  EXPECT_TRUE(admit(offered("1.4.2"), shop(), permissions));
}

TEST(Admit, Other_contents_under_an_installed_version_are_refused) {
  KnownApp known = shop();
  known.installed_digest = base::sha256("old");
  const auto admission = admit(offered("1.4.1", "new"), known, Permissions());
  ASSERT_EQ(code_of(admission), Code::version_conflict);
  EXPECT_EQ(admission.error().expected(), "manifest " + base::sha256("old").hex().substr(0, 16));
  EXPECT_EQ(admission.error().got(), base::sha256("new").hex().substr(0, 16));
}

TEST(Admit, Other_contents_under_a_version_whose_tree_is_gone_are_refused) {
  KnownApp known = shop();
  journal::ReleaseRow row = kept("1.5.0", ReleaseState::good);
  row.removed = true;
  known.releases.push_back(row);
  EXPECT_EQ(code_of(admit(offered("1.5.0", "new"), known, Permissions())), Code::version_conflict);
}

TEST(Admit, No_permission_lets_other_contents_in) {
  KnownApp known = shop();
  known.installed_digest = base::sha256("old");
  Permissions permissions;
  permissions.allow_downgrade = true;
  permissions.retry = true;
  EXPECT_EQ(code_of(admit(offered("1.4.1", "new"), known, permissions)), Code::version_conflict);
}

TEST(Admit, The_same_contents_of_a_version_whose_tree_is_gone_are_deployed_again) {
  KnownApp known = shop();
  journal::ReleaseRow row = kept("1.5.0", ReleaseState::good, "new");
  row.removed = true;
  known.releases.push_back(row);
  const auto admission = admit(offered("1.5.0"), known, Permissions());
  ASSERT_TRUE(admission) << admission.error().line();
  EXPECT_EQ(*admission, Admission::deploy);
}

TEST(Admit, A_held_app_is_refused_and_named_with_its_holder) {
  KnownApp known = shop();
  known.app->held = true;
  known.app->held_by = "uid=0 login=kai";
  const auto admission = admit(offered("1.4.2"), known, Permissions());
  ASSERT_EQ(code_of(admission), Code::held);
  EXPECT_NE(admission.error().message().find("uid=0 login=kai"), std::string::npos);
  EXPECT_EQ(admission.error().hint(), "updagent hold shop --off");
}

TEST(Admit, A_release_that_was_rolled_back_here_is_refused_until_retried) {
  KnownApp known = shop();
  known.releases.push_back(kept("1.4.2", ReleaseState::failed, "new"));
  const auto admission = admit(offered("1.4.2"), known, Permissions());
  ASSERT_EQ(code_of(admission), Code::failed_before);
  EXPECT_NE(admission.error().hint().find("4bf92f3577b34da6a3ce929d0e0e4736"), std::string::npos);
  Permissions permissions;
  permissions.retry = true;
  EXPECT_TRUE(admit(offered("1.4.2"), known, permissions));
}

TEST(Admit, A_failed_release_stands_in_the_way_of_its_own_version_alone) {
  KnownApp known = shop();
  known.releases.push_back(kept("1.4.2", ReleaseState::failed));
  EXPECT_TRUE(admit(offered("1.4.3"), known, Permissions()));
}

TEST(Admit, An_older_release_than_was_committed_is_refused) {
  const auto admission = admit(offered("1.4.0"), shop(), Permissions());
  ASSERT_EQ(code_of(admission), Code::downgrade);
  EXPECT_EQ(admission.error().expected(), "at least 1.4.1, which was committed here");
  EXPECT_EQ(admission.error().got(), "1.4.0");
  Permissions permissions;
  permissions.allow_downgrade = true;
  EXPECT_TRUE(admit(offered("1.4.0"), shop(), permissions));
}

TEST(Admit, A_pre_release_of_the_committed_version_is_a_downgrade) {
  EXPECT_EQ(code_of(admit(offered("1.4.1-rc.1"), shop(), Permissions())), Code::downgrade);
}

TEST(Admit, Build_metadata_alone_makes_no_downgrade) {
  EXPECT_TRUE(admit(offered("1.4.1+build.7"), shop(), Permissions()));
}

TEST(Admit, The_mark_decides_and_not_the_current_release) {
  KnownApp known = shop();
  known.app->high_water = "2.0.0";
  EXPECT_EQ(code_of(admit(offered("1.4.2"), known, Permissions())), Code::downgrade);
}

TEST(Admit, Without_a_mark_the_committed_release_is_it) {
  KnownApp known = shop();
  known.app->high_water.clear();
  known.links.committed = "1.4.2";
  EXPECT_EQ(code_of(admit(offered("0.1.0"), known, Permissions())), Code::downgrade);
  known.app.reset();
  EXPECT_EQ(code_of(admit(offered("0.1.0"), known, Permissions())), Code::downgrade);
}

TEST(Admit, A_tree_that_differs_from_its_row_is_damaged_and_not_another_release) {
  KnownApp known = shop();
  journal::ReleaseRow row;
  row.version = "1.5.0";
  row.digest = offered("1.5.0").manifest_digest.hex();
  known.releases.push_back(row);
  known.installed_digest = base::sha256("something else");
  const auto admitted = admit(offered("1.5.0"), known, Permissions());
  ASSERT_TRUE(admitted) << admitted.error().line();
  EXPECT_EQ(*admitted, Admission::deploy);
}

TEST(Admit, Without_a_mark_and_without_a_committed_release_nothing_is_a_downgrade) {
  KnownApp known = shop();
  known.app->high_water.clear();
  known.links = {};
  EXPECT_TRUE(admit(offered("0.1.0"), known, Permissions()));
  known.app.reset();
  EXPECT_TRUE(admit(offered("0.1.0"), known, Permissions()));
}

// --- check_manifest
// ---------------------------------------------------------------------------------

TEST(CheckManifest, A_manifest_that_fits_passes) {
  release::Manifest manifest = manifest_of("1.4.2");
  manifest.needs.agent = ">=1.0.0";
  manifest.needs.arch = "x86_64";
  const auto status = check_manifest(manifest, offered("1.4.2"), "1.0.0", "x86_64");
  EXPECT_TRUE(status) << status.error().line();
}

TEST(CheckManifest, Another_app_or_version_than_the_statement_names_is_refused) {
  const auto version = check_manifest(manifest_of("1.4.3"), offered("1.4.2"), "1.0.0", "x86_64");
  ASSERT_EQ(code_of(version), Code::statement_mismatch);
  EXPECT_EQ(version.error().expected(), "shop 1.4.2");
  EXPECT_EQ(version.error().got(), "shop 1.4.3");
  release::Manifest other = manifest_of("1.4.2");
  other.app = "blog";
  EXPECT_EQ(code_of(check_manifest(other, offered("1.4.2"), "1.0.0", "x86_64")),
            Code::statement_mismatch);
}

TEST(CheckManifest, A_release_for_another_updagent_is_refused) {
  release::Manifest manifest = manifest_of("1.4.2");
  manifest.needs.agent = ">=2.0.0";
  const auto status = check_manifest(manifest, offered("1.4.2"), "1.0.0", "x86_64");
  ASSERT_EQ(code_of(status), Code::requires_agent);
  EXPECT_EQ(status.error().expected(), ">=2.0.0");
  EXPECT_EQ(status.error().got(), "1.0.0");
}

TEST(CheckManifest, A_release_for_another_machine_type_is_refused) {
  release::Manifest manifest = manifest_of("1.4.2");
  manifest.needs.arch = "aarch64";
  const auto status = check_manifest(manifest, offered("1.4.2"), "1.0.0", "x86_64");
  ASSERT_EQ(code_of(status), Code::requires_arch);
  EXPECT_EQ(status.error().expected(), "aarch64");
  EXPECT_EQ(status.error().got(), "x86_64");
}

// --- user_for
// ---------------------------------------------------------------------------------------

constexpr const char* kAppConfig = "/etc/updagent/apps.d/shop.toml";

base::Result<std::string> as_root(const std::string& asked, const config::AppSettings& settings) {
  release::Manifest manifest = manifest_of("1.4.2");
  manifest.user = asked;
  return user_for(manifest, settings, true, "root", kAppConfig);
}

base::Result<std::string> as_kai(const std::string& asked, const config::AppSettings& settings) {
  release::Manifest manifest = manifest_of("1.4.2");
  manifest.user = asked;
  return user_for(manifest, settings, false, "kai", kAppConfig);
}

TEST(UserFor, Root_gives_the_default_user_to_who_asks_for_none_or_for_it) {
  EXPECT_EQ(as_root("", config::AppSettings()).value(), "nobody");
  EXPECT_EQ(as_root("nobody", config::AppSettings()).value(), "nobody");
  config::AppSettings settings;
  settings.default_user = "www-data";
  EXPECT_EQ(as_root("", settings).value(), "www-data");
}

TEST(UserFor, A_user_that_the_node_does_not_allow_is_refused_with_the_line_that_would) {
  const auto user = as_root("shop", config::AppSettings());
  ASSERT_EQ(code_of(user), Code::privilege);
  EXPECT_EQ(user.error().expected(), "'nobody'");
  EXPECT_EQ(user.error().got(), "'shop'");
  EXPECT_EQ(user.error().hint(),
            "allow it with [allow] users = [\"shop\"] in /etc/updagent/apps.d/shop.toml");
}

TEST(UserFor, An_allowed_user_is_taken) {
  config::AppSettings settings;
  settings.allowed_users = {"blog", "shop"};
  EXPECT_EQ(as_root("shop", settings).value(), "shop");
  EXPECT_EQ(code_of(as_root("mail", settings)), Code::privilege);
}

TEST(UserFor, The_wildcard_allows_any_user_but_root) {
  config::AppSettings settings;
  settings.allowed_users = {"*"};
  EXPECT_EQ(as_root("mail", settings).value(), "mail");
  const auto root = as_root("root", settings);
  ASSERT_EQ(code_of(root), Code::privilege);
  EXPECT_EQ(root.error().hint(),
            "allow it with [allow] root = true in /etc/updagent/apps.d/shop.toml");
}

TEST(UserFor, Root_must_be_allowed_by_its_own_key) {
  config::AppSettings settings;
  settings.allowed_users = {"root"};
  EXPECT_EQ(code_of(as_root("root", settings)), Code::privilege);
  settings.allow_root = true;
  EXPECT_EQ(as_root("root", settings).value(), "");  // the caller's own
}

TEST(UserFor, Allowing_root_changes_nothing_for_releases_that_do_not_ask_for_it) {
  config::AppSettings settings;
  settings.allow_root = true;
  EXPECT_EQ(as_root("", settings).value(), "nobody");
}

TEST(UserFor, The_node_s_user_wins_over_the_release_s) {
  config::AppSettings settings;
  settings.user = "www-data";
  EXPECT_EQ(as_root("root", settings).value(), "www-data");
  EXPECT_EQ(as_root("", settings).value(), "www-data");
  settings.user = "root";
  EXPECT_EQ(as_root("shop", settings).value(), "");
}

TEST(UserFor, Without_root_commands_run_as_the_caller) {
  EXPECT_EQ(as_kai("", config::AppSettings()).value(), "");
  EXPECT_EQ(as_kai("kai", config::AppSettings()).value(), "");
}

TEST(UserFor, Without_root_another_user_is_refused_even_if_allowed) {
  config::AppSettings settings;
  settings.allowed_users = {"*"};
  const auto user = as_kai("shop", settings);
  ASSERT_EQ(code_of(user), Code::privilege);
  EXPECT_EQ(user.error().expected(), "'kai', the user that runs updagent");
  EXPECT_EQ(user.error().got(), "'shop'");
}

TEST(UserFor, Without_root_the_node_can_make_the_caller_the_user) {
  config::AppSettings settings;
  settings.user = "kai";
  EXPECT_EQ(as_kai("shop", settings).value(), "");
}

// --- previous_release
// -------------------------------------------------------------------------------

TEST(PreviousRelease, Is_the_newest_good_one_below_the_current) {
  const std::vector<journal::ReleaseRow> releases = {
      kept("1.9.0", ReleaseState::good), kept("1.10.0", ReleaseState::good),
      kept("2.0.0", ReleaseState::good), kept("2.1.0", ReleaseState::good)};
  EXPECT_EQ(previous_release(releases, "2.0.0", std::nullopt), "1.10.0");
}

TEST(PreviousRelease, Is_never_one_that_failed_was_only_staged_or_is_gone) {
  journal::ReleaseRow gone = kept("1.3.0", ReleaseState::good);
  gone.removed = true;
  const std::vector<journal::ReleaseRow> releases = {kept("1.1.0", ReleaseState::good), gone,
                                                     kept("1.4.0", ReleaseState::failed),
                                                     kept("1.5.0", ReleaseState::staged)};
  EXPECT_EQ(previous_release(releases, "2.0.0", std::nullopt), "1.1.0");
}

TEST(PreviousRelease, Is_the_one_that_the_current_replaced_even_if_that_is_newer) {
  journal::AppRow app;
  app.previous = "3.0.0";
  const std::vector<journal::ReleaseRow> releases = {kept("1.0.0", ReleaseState::good),
                                                     kept("3.0.0", ReleaseState::good)};
  EXPECT_EQ(previous_release(releases, "2.0.0", app), "3.0.0");
}

TEST(PreviousRelease, Falls_back_to_the_newest_good_one_when_the_replaced_one_is_no_longer_good) {
  journal::AppRow app;
  app.previous = "1.5.0";
  const std::vector<journal::ReleaseRow> releases = {kept("1.0.0", ReleaseState::good),
                                                     kept("1.5.0", ReleaseState::failed)};
  EXPECT_EQ(previous_release(releases, "2.0.0", app), "1.0.0");
}

TEST(PreviousRelease, Is_nothing_when_only_the_current_is_kept) {
  EXPECT_EQ(previous_release({kept("2.0.0", ReleaseState::good)}, "2.0.0", std::nullopt),
            std::nullopt);
  EXPECT_EQ(previous_release({}, "", std::nullopt), std::nullopt);
}

TEST(PreviousRelease, Without_a_current_one_is_the_newest_good_one) {
  const std::vector<journal::ReleaseRow> releases = {kept("1.0.0", ReleaseState::good),
                                                     kept("2.0.0", ReleaseState::good)};
  EXPECT_EQ(previous_release(releases, "", std::nullopt), "2.0.0");
}

// --- check_floor
// ------------------------------------------------------------------------------------

TEST(CheckFloor, Without_a_floor_every_release_may_follow) {
  EXPECT_TRUE(check_floor(manifest_of("2.0.0"), "0.1.0"));
}

TEST(CheckFloor, The_floor_itself_and_what_is_above_may_follow) {
  release::Manifest manifest = manifest_of("2.0.0");
  manifest.needs.rollback_floor = release::parse_semver("1.3.0").value();
  EXPECT_TRUE(check_floor(manifest, "1.3.0"));
  EXPECT_TRUE(check_floor(manifest, "1.4.0"));
}

TEST(CheckFloor, What_is_below_the_floor_is_refused) {
  release::Manifest manifest = manifest_of("2.0.0");
  manifest.needs.rollback_floor = release::parse_semver("1.3.0").value();
  const auto status = check_floor(manifest, "1.2.9");
  ASSERT_EQ(code_of(status), Code::rollback_floor);
  EXPECT_EQ(status.error().expected(), "at least 1.3.0, the release's rollback_floor");
  EXPECT_EQ(status.error().got(), "1.2.9");
}

TEST(CheckFloor, A_pre_release_of_the_floor_is_below_it) {
  release::Manifest manifest = manifest_of("2.0.0");
  manifest.needs.rollback_floor = release::parse_semver("1.3.0").value();
  EXPECT_EQ(code_of(check_floor(manifest, "1.3.0-rc.1")), Code::rollback_floor);
}

// --- describe_plan
// ----------------------------------------------------------------------------------

TEST(DescribePlan, Names_every_step_in_order_with_what_the_node_cuts) {
  release::Manifest manifest = manifest_of("1.4.2");
  manifest.hooks.pre_upgrade =
      release::Command{{"bin/migrate", "--expand"}, base::Milliseconds(60'000)};
  manifest.rollout.watch = base::Milliseconds(7'200'000);
  release::Probe probe;
  probe.name = "healthz";
  manifest.probes.push_back(probe);
  const std::vector<std::string> wanted = {
      "hooks and exec probes run as 'shop'",
      "run pre_upgrade: bin/migrate --expand (at most " +
          base::format_duration(base::Milliseconds(60'000)) + ")",
      "switch current from 1.4.1 to 1.4.2",
      "probe 'healthz' must pass 1 in a row, every 1s",
      "watch for " + base::format_duration(config::AppSettings().max_watch),
      "commit 1.4.2",
      "keep the newest 3 good releases"};
  EXPECT_EQ(describe_plan(manifest, "1.4.1", "shop", config::AppSettings()), wanted);
}

TEST(DescribePlan, Says_where_a_service_runs_and_when_it_gets_its_users) {
  release::Manifest manifest = manifest_of("1.4.2");
  manifest.strategy = release::kStrategyHandoff;
  release::ResolvedService run;
  run.user = "shop";
  release::Listener& listener = run.service.listeners.emplace_back();
  listener.name = "http";
  listener.address = "tcp:127.0.0.1:9090";
  const auto lines = describe_plan(manifest, "1.4.1", "shop", config::AppSettings(), &run);
  ASSERT_GE(lines.size(), 3U);
  EXPECT_EQ(lines[0], "start it beside 1.4.1 as 'shop', http at tcp:127.0.0.1:9090");
  EXPECT_EQ(lines[2], "give it all new connections; 1.4.1 stays until the commit");
}

TEST(DescribePlan, Says_the_preflight_the_steps_and_the_gates) {
  release::Manifest manifest = manifest_of("1.4.2");
  manifest.strategy = release::kStrategyHandoff;
  manifest.preflight.warmup.emplace().paths = {"/", "/a"};
  manifest.preflight.smoke = {release::Command{{"bin/smoke"}, base::Milliseconds(1000)}};
  manifest.rollout.steps = {{1, base::Milliseconds(30'000), 0},
                            {100, base::Milliseconds(7'200'000), 50}};
  release::Gate& gate = manifest.gates.emplace_back();
  gate.name = "errors";
  gate.type = release::GateType::scrape;
  gate.condition = "error_ratio <= 0.05";
  gate.failures = 2;
  release::ResolvedService run;
  const auto lines = describe_plan(manifest, "1.4.1", "", config::AppSettings(), &run);
  const std::vector<std::string> wanted = {
      "start it beside 1.4.1",
      "warm it up: 1 times / /a (at most 30s)",
      "try it: bin/smoke (at most 1s)",
      "switch current from 1.4.1 to 1.4.2",
      "give it 1 % of new connections for 30s",
      "give it 100 % of new connections for " +
          base::format_duration(config::AppSettings().max_watch) +
          " and until it has had 50 (at most " +
          base::format_duration(base::Milliseconds(600'000)) + " more)",
      "gate 'errors' (scrape): error_ratio <= 0.05, fails after 2 in a row, every 10s",
      "commit 1.4.2",
      "keep the newest 3 good releases"};
  EXPECT_EQ(lines, wanted);
}

TEST(DescribePlan, Says_when_there_is_no_release_before) {
  const auto lines = describe_plan(manifest_of("1.0.0"), "", "", config::AppSettings());
  ASSERT_FALSE(lines.empty());
  EXPECT_EQ(lines.front(), "switch current to 1.0.0 (the first release)");
}

}  // namespace
}  // namespace updagent::deploy
