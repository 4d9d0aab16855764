// schema/manifest.schema.json against the writer and against the reader: what one takes the other
// takes. Python's jsonschema is the judge.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "agent/base/strict_json.hpp"
#include "agent/release/manifest.hpp"
#include "support.hpp"

namespace updagent::release {
namespace {

using testing::parse;
using testing::text_with;
using testing::text_with_entries;

constexpr const char* kJudge = R"py(
import json, sys
from jsonschema import Draft202012Validator
schema = json.load(open(sys.argv[1]))
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)
wrong = 0
for name in sys.argv[3:]:
    errors = [e.json_path + ": " + e.message[:300] for e in validator.iter_errors(json.load(open(name)))]
    if bool(errors) == (sys.argv[2] == "valid"):
        print(open(name).read()[-400:], errors or "no error", sep="\n")
        wrong += 1
sys.exit(1 if wrong else 0)
)py";

class ManifestSchema : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "updagent-schema-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
    std::ofstream(folder_ / "judge.py") << kJudge;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // All texts are `verdict` ("valid" or "invalid") by the schema.
  void expect_all(const std::vector<std::string>& texts, const std::string& verdict) {
    std::string command = UPDAGENT_PYTHON " '" + (folder_ / "judge.py").string() +
                          "' '" UPDAGENT_SOURCE_DIR "/schema/manifest.schema.json' " + verdict;
    for (std::size_t i = 0; i < texts.size(); ++i) {
      const auto path = folder_ / (std::to_string(i) + ".json");
      std::ofstream(path) << texts[i];
      command += " '" + path.string() + '\'';
    }
    EXPECT_EQ(std::system(command.c_str()), 0) << "see above: these should be " << verdict;
  }

 private:
  std::filesystem::path folder_;
};

TEST_F(ManifestSchema, Takes_what_the_writer_writes) {
  Manifest restart = testing::handoff_manifest();
  restart.strategy = "restart";
  restart.service->listeners.clear();
  expect_all({testing::write(testing::full_manifest()), testing::write(testing::small_manifest()),
              testing::write(testing::handoff_manifest()),
              testing::write(testing::full_handoff_manifest()), testing::write(restart)},
             "valid");
}

TEST_F(ManifestSchema, Takes_the_edges_that_the_reader_takes) {
  const std::vector<std::string> texts = {
      text_with(R"("hooks":{},"probes":[],"requires":{},"service":{"environment":{}},"source":{})"),
      text_with(R"("retention":{"keep":1000},"rollout":{"watch_ms":86400000})"),
      text_with(R"("hooks":{"pre_upgrade":{"command":["x",""],"timeout_ms":86400000}})"),
      text_with(R"("requires":{"agent":"1.0.0","arch":"aarch64","rollback_floor":"1.4.2-rc.1+b"})"),
      text_with_entries(R"({"mode":"0500","mtime":8589934591,"path":"...","type":"directory"})"),
      text_with_entries(
          R"({"mode":"0777","mtime":0,"path":"l","target":"a/./..//b","type":"symlink"})"),
  };
  for (const std::string& text : texts) EXPECT_OK(parse(text));
  expect_all(texts, "valid");
}

// The service of a small handoff with `edit` done to it.
template <class Edit>
std::string service_text(Edit edit) {
  base::Json tree = base::Json::parse(testing::write(testing::handoff_manifest()));
  edit(tree["service"], tree);
  return tree.dump();
}
std::string with_key(const char* key, const base::Json& value) {
  return service_text([&](base::Json& service, base::Json&) { service[key] = value; });
}
std::string with_listener(const base::Json& listener) {
  return service_text(
      [&](base::Json& service, base::Json&) { service["listeners"][0] = listener; });
}

TEST_F(ManifestSchema, Takes_the_edges_of_a_service_that_the_reader_takes) {
  const std::vector<std::string> texts = {
      with_key("user", ""),
      with_key("umask", "0000"),
      with_key("watchdog_ms", 0),
      with_key("watchdog_ms", 86'400'000),
      with_key("drain_timeout_ms", 0),
      with_key("allow_shared", false),
      with_key("groups", base::Json::array()),
      with_key("on_crash_loop", "restart"),
      with_key("rlimits", {{"nofile", 64}, {"as", 9'007'199'254'740'992}, {"core", "unlimited"}}),
      with_listener({{"name", "a"}, {"address", "tcp:[2001:db8::1]:65535"}, {"ipv6_only", false}}),
      with_listener({{"name", "a"}, {"address", "unix:/a/..b"}, {"mode", "0000"}, {"user", ""}}),
      with_listener({{"name", "a"}, {"address", "unix:@" + std::string(89, '~')}, {"backlog", 1}}),
      with_listener({{"name", "a"}, {"address", "unix:/" + std::string(89, '!')}}),
      with_listener({{"name", "stored2"}, {"address", "udp:255.255.255.255:1"}}),
  };
  for (const std::string& text : texts) EXPECT_OK(parse(text));
  expect_all(texts, "valid");
}

TEST_F(ManifestSchema, Refuses_services_that_the_reader_refuses) {
  std::vector<std::string> texts = {
      with_key("extra", 1),
      with_key("command", base::Json::array()),
      with_key("command", {""}),
      with_key("protocol", "launchd"),
      with_key("protocol", 1),
      with_key("ready", "started"),
      with_key("ready_timeout_ms", 0),
      with_key("stop_timeout_ms", 86'400'001),
      with_key("drain_timeout_ms", "60s"),
      with_key("stop_signal", "SIGKILL"),
      with_key("reload_signal", ""),
      with_key("watchdog_ms", 999),
      with_key("umask", "022"),
      with_key("umask", 18),
      with_key("groups", {"a b"}),
      with_key("groups", {"a", "a"}),
      with_key("capabilities", {"cap_chown"}),
      with_key("capabilities", {"CAP_CHOWN", "CAP_CHOWN"}),
      with_key("rlimits", {{"nofile", 63}}),
      with_key("rlimits", {{"nofile", "unlimited"}}),
      with_key("rlimits", {{"core", "64MiB"}}),
      with_key("rlimits", {{"cpu", 1}}),
      with_key("on_crash_loop", "stop"),
      with_key("allow_shared", 1),
      with_key("socket_environment", {{"A-B", "x"}}),
      with_key("listeners", base::Json::array()),
      with_listener({{"name", "a"}}),
      with_listener({{"address", "unix:@a"}}),
      with_listener({{"name", "a:b"}, {"address", "unix:@a"}}),
      with_listener({{"name", "stored"}, {"address", "unix:@a"}}),
      with_listener({{"name", "a"}, {"address", "unix:@a"}, {"proxy_protocol", true}}),
      with_listener({{"name", "a"}, {"address", "unix:@a"}, {"mode", "0660"}}),
      with_listener({{"name", "a"}, {"address", "tcp:127.0.0.1:1"}, {"user", "x"}}),
      with_listener({{"name", "a"}, {"address", "tcp:127.0.0.1:1"}, {"ipv6_only", false}}),
      with_listener({{"name", "a"}, {"address", "udp:127.0.0.1:1"}, {"backlog", 1}}),
      with_listener({{"name", "a"}, {"address", "tcp:127.0.0.1:1"}, {"backlog", 65536}}),
  };
  for (const std::string address : {"", "tcp:localhost:80", "tcp:127.0.0.1:0", "tcp:127.0.0.1:080",
                                    "tcp:*:80", "unix:x", "unix:/a/", "unix:/a//b", "unix:/a/../b",
                                    "unix:/.", "unix:/a b", "unix:@", "sctp:1.1.1.1:1"})
    texts.push_back(with_listener({{"name", "a"}, {"address", address}}));
  for (const std::string key : {"command", "drain_timeout_ms", "protocol", "ready",
                                "ready_timeout_ms", "stop_signal", "stop_timeout_ms", "listeners"})
    texts.push_back(service_text([&](base::Json& service, base::Json&) { service.erase(key); }));
  texts.push_back(service_text([](base::Json&, base::Json& tree) { tree.erase("service"); }));
  texts.push_back(service_text([](base::Json&, base::Json& tree) { tree["strategy"] = "files"; }));
  texts.push_back(service_text([](base::Json&, base::Json& tree) { tree["strategy"] = "reload"; }));
  texts.push_back(service_text([](base::Json& service, base::Json& tree) {
    tree["strategy"] = "restart";
    service["allow_shared"] = true;
  }));
  texts.push_back(service_text([](base::Json& service, base::Json& tree) {
    tree["strategy"] = "restart";
    service["protocol"] = "inject";
    service.erase("listeners");
  }));
  for (const std::string& text : texts) EXPECT_FALSE(parse(text).has_value()) << text;
  expect_all(texts, "invalid");
}

// The text of the manifest with everything of a rollout, with `edit` done to it.
template <class Edit>
std::string rollout_text(Edit edit) {
  base::Json tree = base::Json::parse(testing::write(testing::rollout_manifest()));
  edit(tree);
  return tree.dump();
}

TEST_F(ManifestSchema, Takes_steps_gates_preflight_and_workers) {
  std::vector<std::string> texts = {
      testing::write(testing::rollout_manifest()),
      rollout_text([](base::Json& tree) { tree["gates"][2]["max_failures"] = 0; }),
      rollout_text([](base::Json& tree) { tree["rollout"]["steps"] = base::Json::array(); }),
      rollout_text([](base::Json& tree) { tree["rollout"]["steps"][0]["duration_ms"] = 0; }),
      rollout_text([](base::Json& tree) { tree["preflight"] = base::Json::object(); }),
      rollout_text([](base::Json& tree) { tree["preflight"]["warmup"]["listener"] = ""; }),
      rollout_text([](base::Json& tree) { tree["service"]["role_signal"] = "SIGUSR1"; }),
      rollout_text(
          [](base::Json& tree) { tree["service"]["listeners"][0]["proxy_protocol"] = true; }),
  };
  for (const std::string& text : texts) EXPECT_OK(parse(text));
  expect_all(texts, "valid");
}

TEST_F(ManifestSchema, Refuses_steps_gates_preflight_and_workers_that_the_reader_refuses) {
  std::vector<std::string> texts;
  const auto set = [&](const char* pointer, const base::Json& value) {
    texts.push_back(
        rollout_text([&](base::Json& tree) { tree[base::Json::json_pointer(pointer)] = value; }));
  };
  const auto erase = [&](const char* parent, const char* key) {
    texts.push_back(
        rollout_text([&](base::Json& tree) { tree[base::Json::json_pointer(parent)].erase(key); }));
  };
  set("/strategy", "restart");
  set("/rollout/steps/0/percent", 0);
  set("/rollout/steps/0/percent", "1");
  set("/rollout/steps/0/extra", 1);
  set("/rollout/steps/0", 1);
  set("/rollout/affinity", "ip");
  set("/rollout/standby", "");
  erase("/rollout", "steps");
  erase("/rollout", "watch_ms");
  erase("/rollout/steps/0", "duration_ms");
  set("/preflight/smoke/0/timeout_ms", 0);
  set("/preflight/extra", 1);
  set("/preflight/warmup/paths", base::Json::array());
  set("/preflight/warmup/paths/0", "a");
  set("/preflight/warmup/paths/0", "/a b");
  set("/preflight/warmup/paths/0", "/a#b");
  set("/preflight/warmup/count", 0);
  erase("/preflight/warmup", "timeout_ms");
  set("/service/workers/0/stop_signal", "SIGKILL");
  set("/service/workers/0/name", "a b");
  set("/service/workers/0/command", base::Json::array());
  erase("/service/workers/0", "stop_timeout_ms");
  for (std::size_t i = 0; i < testing::rollout_manifest().gates.size(); ++i) {
    const std::string gate = "/gates/" + std::to_string(i);
    set((gate + "/extra").c_str(), 1);
    set((gate + "/failures").c_str(), 0);
    set((gate + "/max_failures").c_str(), -1);
    set((gate + "/type").c_str(), "other");
    erase(gate.c_str(), "name");
    erase(gate.c_str(), "failures");
  }
  for (const std::string& text : texts) EXPECT_FALSE(parse(text).has_value()) << text;
  expect_all(texts, "invalid");
}

TEST_F(ManifestSchema, Refuses_what_the_reader_refuses) {
  const auto entry = [](std::string_view row) { return text_with_entries(row); };
  const std::string probe =
      R"("failures":3,"initial_delay_ms":0,"interval_ms":1,"name":"p","successes":1,"timeout_ms":1)";
  const std::vector<std::string> texts = {
      "[]",
      text_with(R"("extra":1)"),
      text_with(R"("builder":"a\nb")"),
      text_with(R"("builder":1)"),
      text_with(R"("retention":{"keep":0})"),
      text_with(R"("retention":{})"),
      text_with(R"("rollout":{"watch_ms":86400001})"),
      text_with(R"("rollout":{"steps":[1]})"),
      text_with(R"("service":{"command":["x"]})"),
      text_with(R"("service":{"user":"0"})"),
      text_with(R"("service":{"environment":{"A-B":"x"}})"),
      text_with(R"("service":{"environment":{"A":"x\u0000"}})"),
      text_with(R"("source":{"url":"x"})"),
      text_with(R"("requires":{"rollback_floor":"1.0"})"),
      text_with(R"("hooks":{"pre_upgrade":{"command":[],"timeout_ms":1}})"),
      text_with(R"("hooks":{"pre_upgrade":{"command":[""],"timeout_ms":1}})"),
      text_with(R"("hooks":{"pre_upgrade":{"command":["a\u0000"],"timeout_ms":1}})"),
      text_with(R"("hooks":{"pre_upgrade":{"command":["x"],"timeout_ms":0}})"),
      text_with(R"("hooks":{"other":{"command":["x"],"timeout_ms":1}})"),
      text_with(R"("probes":[{"type":"exec","command":["x"],"url":"http://h/",)" + probe + "}]"),
      text_with(R"("probes":[{"type":"http","url":"ftp://h/","expect_status":["200"],)" + probe +
                "}]"),
      text_with(R"("probes":[{"type":"http","url":"http://u@h/","expect_status":["200"],)" + probe +
                "}]"),
      text_with(R"("probes":[{"type":"http","url":"http://h/","expect_status":["2xx"],)" + probe +
                "}]"),
      text_with(R"("probes":[{"type":"http","url":"http://h/","expect_status":[],)" + probe + "}]"),
      text_with(R"("probes":[{"type":"tcp","address":"h",)" + probe + "}]"),
      text_with(R"("probes":[{"type":"udp","address":"h:1",)" + probe + "}]"),
      text_with(R"("probes":[{"type":"tcp","address":"h:1"}])"),
      entry("1"),
      entry("{}"),
      entry(R"({"mode":"0755","mtime":1,"path":"/d","type":"directory"})"),
      entry(R"({"mode":"0755","mtime":1,"path":"d/","type":"directory"})"),
      entry(R"({"mode":"0755","mtime":1,"path":"..","type":"directory"})"),
      entry(R"({"mode":"0755","mtime":1,"path":"a/./b","type":"directory"})"),
      entry(R"({"mode":"0755","mtime":1,"path":"a//b","type":"directory"})"),
      entry(R"({"mode":"0755","mtime":1,"path":"a\u001bb","type":"directory"})"),
      entry(R"({"mode":"0755","mtime":1,"path":".updagent","type":"directory"})"),
      entry(R"({"mode":"0755","mtime":1,"path":"","type":"directory"})"),
      entry(R"({"mode":"4755","mtime":1,"path":"d","type":"directory"})"),
      entry(R"({"mode":"0455","mtime":1,"path":"d","type":"directory"})"),
      entry(R"({"mode":"755","mtime":1,"path":"d","type":"directory"})"),
      entry(R"({"mode":"0755","mtime":-1,"path":"d","type":"directory"})"),
      entry(R"({"mode":"0755","mtime":8589934592,"path":"d","type":"directory"})"),
      entry(R"({"mode":"0755","mtime":1,"path":"d","type":"fifo"})"),
      entry(R"({"mode":"0755","mtime":1,"path":"d","type":"directory","size":0})"),
      entry(R"({"mode":"0644","mtime":1,"path":"f","type":"file","size":1})"),
      entry(R"({"mode":"0644","mtime":1,"path":"f","type":"file","size":1,"sha256":"00"})"),
      entry(R"({"mode":"0755","mtime":1,"path":"l","target":"x","type":"symlink"})"),
      entry(R"({"mode":"0777","mtime":1,"path":"l","target":"/x","type":"symlink"})"),
      entry(R"({"mode":"0777","mtime":1,"path":"l","target":"","type":"symlink"})"),
      entry(R"({"mode":"0644","mtime":1,"path":"h","target":"../x","type":"hardlink"})"),
  };
  for (const std::string& text : texts) EXPECT_FALSE(parse(text).has_value()) << text;
  expect_all(texts, "invalid");
}

}  // namespace
}  // namespace updagent::release
