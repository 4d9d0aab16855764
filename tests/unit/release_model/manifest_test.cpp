// The canonical bytes, and that reading gives back what was written.
#include "agent/release/manifest.hpp"

#include <gtest/gtest.h>

#include "support.hpp"

namespace updagent::release {
namespace {

using base::Code;
using testing::directory;
using testing::expect_error;
using testing::file;
using testing::full_manifest;
using testing::parse;
using testing::small_manifest;
using testing::TextSource;
using testing::write;

TEST(Manifest, A_release_without_entries_is_one_line) {
  EXPECT_EQ(write(small_manifest()),
            R"({"app":"shop","created":"2024-06-18T17:00:00Z","entries":[],"schema":1,)"
            R"("strategy":"files","version":"1.4.2"})"
            "\n");
}

TEST(Manifest, Keys_are_sorted_and_each_entry_has_a_line) {
  const std::string a = base::sha256("bin/migrate").hex();
  const std::string b = base::sha256("bin/tsc").hex();
  const std::string c = base::sha256("na\"me\\\xC3\xBC").hex();
  EXPECT_EQ(
      write(full_manifest()),
      R"({"app":"shop","builder":"ci run 42","created":"2024-06-18T17:00:00Z","entries":[)"
      "\n"
      R"({"mode":"0755","mtime":1718730000,"path":"bin","type":"directory"},)"
      "\n"
      R"({"mode":"0644","mtime":1718730000,"path":"bin/migrate","sha256":")" +
          a +
          R"(","size":123,"type":"file"},)"
          "\n"
          R"({"mode":"0644","mtime":1718730000,"path":"bin/tsc","sha256":")" +
          b +
          R"(","size":1099511627776,"type":"file"},)"
          "\n"
          R"({"mode":"0777","mtime":1718730000,"path":"cur","target":"bin","type":"symlink"},)"
          "\n"
          R"({"mode":"0644","mtime":1718730000,"path":"na\"me\\)"
          "\xC3\xBC"
          R"(","sha256":")" +
          c +
          R"(","size":0,"type":"file"},)"
          "\n"
          R"({"mode":"0644","mtime":1718730000,"path":"zlink","target":"bin/migrate","type":"hardlink"})"
          "\n"
          R"(],"hooks":{"post_commit":{"command":["/usr/bin/logger","done"],"timeout_ms":1},)"
          R"("post_rollback":{"command":["bin/undo",""],"timeout_ms":86400000},)"
          R"("post_switch":{"command":["bin/hello"],"timeout_ms":60000},)"
          R"("pre_upgrade":{"command":["bin/migrate","--expand"],"timeout_ms":90000}},)"
          R"("probes":[{"expect_body":"ok","expect_status":["200-299","304"],"failures":3,"initial_delay_ms":0,)"
          R"("interval_ms":1000,"name":"healthz","successes":1,"timeout_ms":1000,"type":"http","url":"http://127.0.0.1:8080/healthz"},)"
          R"({"command":["bin/tsc","--version"],"failures":3,"initial_delay_ms":500,"interval_ms":1000,"name":"compile","successes":1,"timeout_ms":1000,"type":"exec"},)"
          R"({"address":"[::1]:8080","failures":3,"initial_delay_ms":0,"interval_ms":1000,"name":"port","successes":1,"timeout_ms":1000,"type":"tcp"}],)"
          R"("requires":{"agent":">=1.0.0, <2.0.0","arch":"x86_64","rollback_floor":"1.3.0"},)"
          R"("retention":{"keep":5},"rollout":{"watch_ms":60000},"schema":1,)"
          R"("service":{"environment":{"GREETING":"gr)"
          "\xC3\xBC\xC3\x9F"
          R"( \"dich\"\n","MODE":"prod"},"user":"shop"},)"
          R"("source":{"repository":"https://example.org/shop.git","revision":"8f14e45f"},)"
          R"("strategy":"files","version":"1.4.2"})"
          "\n");
}

TEST(Manifest, What_was_written_is_read_and_written_the_same) {
  const std::string text = write(full_manifest());
  auto manifest = parse(text);
  ASSERT_TRUE(manifest.has_value()) << manifest.error().line();
  EXPECT_EQ(write(*manifest), text);
}

TEST(Manifest, Reading_gives_every_field) {
  const auto manifest = parse(write(full_manifest()));
  ASSERT_TRUE(manifest.has_value()) << manifest.error().line();
  EXPECT_EQ(manifest->app, "shop");
  EXPECT_EQ(manifest->version.text(), "1.4.2");
  EXPECT_EQ(manifest->created, 1718730000);
  EXPECT_EQ(manifest->builder, "ci run 42");
  EXPECT_EQ(manifest->source_repository, "https://example.org/shop.git");
  EXPECT_EQ(manifest->source_revision, "8f14e45f");
  EXPECT_EQ(manifest->strategy, "files");
  EXPECT_EQ(manifest->user, "shop");
  EXPECT_EQ(manifest->environment, full_manifest().environment);
  EXPECT_EQ(manifest->rollout.watch, base::Milliseconds(60'000));
  EXPECT_EQ(manifest->keep, 5);
  EXPECT_EQ(manifest->needs.agent, ">=1.0.0, <2.0.0");
  EXPECT_EQ(manifest->needs.arch, "x86_64");
  EXPECT_EQ(manifest->needs.rollback_floor->text(), "1.3.0");
  EXPECT_EQ(manifest->entries.size(), 6U);
  ASSERT_TRUE(manifest->hooks.pre_upgrade.has_value());
  EXPECT_EQ(manifest->hooks.pre_upgrade->argv,
            (std::vector<std::string>{"bin/migrate", "--expand"}));
  EXPECT_EQ(manifest->hooks.pre_upgrade->timeout, base::Milliseconds(90'000));
  EXPECT_EQ(manifest->hooks.post_rollback->argv, (std::vector<std::string>{"bin/undo", ""}));
}

TEST(Manifest, Reading_gives_every_field_of_the_probes) {
  const auto manifest = parse(write(full_manifest()));
  ASSERT_TRUE(manifest.has_value()) << manifest.error().line();
  ASSERT_EQ(manifest->probes.size(), 3U);
  const Probe& http = manifest->probes[0];
  EXPECT_EQ(http.name, "healthz");
  EXPECT_EQ(http.type, ProbeType::http);
  EXPECT_EQ(http.url, "http://127.0.0.1:8080/healthz");
  EXPECT_EQ(http.expect_status, (std::vector<std::pair<int, int>>{{200, 299}, {304, 304}}));
  EXPECT_EQ(http.expect_body, "ok");
  const Probe& exec = manifest->probes[1];
  EXPECT_EQ(exec.command.argv, (std::vector<std::string>{"bin/tsc", "--version"}));
  EXPECT_EQ(exec.initial_delay, base::Milliseconds(500));
  EXPECT_EQ(exec.interval, base::Milliseconds(1000));
  EXPECT_EQ(exec.failures, 3);
  EXPECT_EQ(exec.successes, 1);
  EXPECT_EQ(manifest->probes[2].address, "[::1]:8080");
}

TEST(Manifest, Defaults_hold_for_sections_that_are_not_there) {
  const auto manifest = parse(write(small_manifest()));
  ASSERT_TRUE(manifest.has_value()) << manifest.error().line();
  EXPECT_EQ(manifest->keep, 3);
  EXPECT_EQ(manifest->rollout.watch, base::Milliseconds(0));
  EXPECT_TRUE(manifest->probes.empty());
  EXPECT_FALSE(manifest->hooks.pre_upgrade.has_value());
  EXPECT_FALSE(manifest->needs.rollback_floor.has_value());
}

TEST(Manifest, The_size_of_the_sources_pieces_does_not_matter) {
  const std::string text = write(full_manifest());
  for (const std::size_t chunk : {1U, 7U, 1'000'000U}) {
    TextSource source(text, chunk);
    const auto manifest = parse_manifest(source);
    ASSERT_TRUE(manifest.has_value()) << manifest.error().line();
    EXPECT_EQ(write(*manifest), text);
  }
}

TEST(Manifest, A_hundred_thousand_entries_take_a_table_of_bounded_memory) {
  constexpr int kFiles = 100'000;
  Manifest manifest = small_manifest();
  for (int i = 0; i < kFiles; ++i) {
    const std::string folder = "node_modules/package-" + std::to_string(100'000 + i / 100);
    if (i == 0) {
      ASSERT_TRUE(manifest.entries.add(directory("node_modules")));
    }
    if (i % 100 == 0) {
      ASSERT_TRUE(manifest.entries.add(directory(folder)));
    }
    ASSERT_TRUE(manifest.entries.add(file(folder + "/file-" + std::to_string(100'000 + i), 10)));
  }
  const std::string text = write(manifest);
  const auto parsed = parse(text);
  ASSERT_TRUE(parsed.has_value()) << parsed.error().line();
  EXPECT_EQ(parsed->entries.size(), kFiles + kFiles / 100 + 1U);
  EXPECT_EQ(parsed->entries.total_file_bytes(), kFiles * 10U);
  EXPECT_LT(parsed->entries.memory_bytes(), 20'000'000U);  // a tree of it takes 105 MB
  EXPECT_EQ(write(*parsed), text);
}

TEST(Manifest, The_writers_sink_can_stop_it) {
  expect_error(write_manifest(full_manifest(),
                              [](std::string_view) -> base::Status {
                                return base::Error(Code::no_space, "the disk is full");
                              }),
               Code::no_space, "the disk is full");
}

TEST(Manifest, What_a_reader_would_refuse_is_not_written) {
  const auto ignore = [](std::string_view) { return base::ok(); };
  Manifest manifest = small_manifest();
  manifest.app = "Shop";
  expect_error(
      write_manifest(manifest, ignore), Code::manifest_invalid,
      "app is not valid (expected 1 to 64 of a-z, 0-9, '.', '_' and '-', a letter or digit "
      "first, no '..', got 'Shop')");
  manifest = small_manifest();
  manifest.builder = "\xFF";
  expect_error(write_manifest(manifest, ignore), Code::manifest_invalid,
               "builder is not valid (expected UTF-8, got '\\xff')");
  manifest = small_manifest();
  manifest.version.prerelease = {"a/b"};
  expect_error(
      write_manifest(manifest, ignore), Code::manifest_invalid,
      "version is not valid (expected a version such as 1.4.2 or 1.5.0-rc.1, got '1.4.2-a/b')");
  manifest = small_manifest();
  manifest.environment = {{"B", ""}, {"A", ""}};
  expect_error(write_manifest(manifest, ignore), Code::manifest_invalid,
               "service.environment is not valid (expected sorted names, each once, got 'A')");
  manifest = small_manifest();
  ASSERT_TRUE(manifest.entries.add(file("A")) && manifest.entries.add(file("a")));
  EXPECT_EQ(write_manifest(manifest, ignore).error().code(), Code::path_unsafe);
}

TEST(Manifest, A_description_that_is_too_large_is_not_written) {
  Manifest manifest = small_manifest();
  for (int i = 100; i < 170; ++i)
    manifest.environment.emplace_back("V" + std::to_string(i), std::string(kMaxStringBytes, 'x'));
  const auto status = write_manifest(manifest, [](std::string_view) { return base::ok(); });
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code(), Code::manifest_too_large);
  EXPECT_EQ(status.error().expected(), "at most 1048576 bytes");
  // what just fits is read again
  manifest.environment.resize(63);
  EXPECT_OK(parse(write(manifest)));
}

}  // namespace
}  // namespace updagent::release
