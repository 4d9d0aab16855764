// The rules for the manifest's sections, each with the place that breaks it.
#include <gtest/gtest.h>

#include "agent/release/endpoints.hpp"
#include "agent/release/manifest.hpp"
#include "support.hpp"

namespace updagent::release {
namespace {

using base::Code;
using testing::expect_error;
using testing::parse;
using testing::text_with;
using testing::text_with_entries;

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

std::string small(std::string_view from, std::string_view to) {
  return replaced(text_with_entries(""), from, to);
}

const std::string kHttp =
    R"({"expect_status":["200"],"failures":3,"initial_delay_ms":0,"interval_ms":1000,"name":"p",)"
    R"("successes":1,"timeout_ms":1000,"type":"http","url":"http://h/"})";
const std::string kExec =
    R"({"command":["x"],"failures":3,"initial_delay_ms":0,"interval_ms":1000,"name":"p",)"
    R"("successes":1,"timeout_ms":1000,"type":"exec"})";
const std::string kTcp =
    R"({"address":"h:1","failures":3,"initial_delay_ms":0,"interval_ms":1000,"name":"p",)"
    R"("successes":1,"timeout_ms":1000,"type":"tcp"})";

std::string probe(const std::string& base, std::string_view from, std::string_view to) {
  return text_with(R"("probes":[)" + replaced(base, from, to) + "]");
}

void refused(const std::string& text, std::string_view line, Code code = Code::manifest_invalid) {
  expect_error(parse(text), code, "manifest: " + std::string(line));
}

TEST(ManifestValues, Unknown_keys_are_refused_in_every_object) {
  refused(text_with(R"("hook":{})"),
          "unknown key (expected one of app, builder, created, gates, hooks, preflight, probes, "
          "requires, retention, "
          "rollout, schema, service, source, strategy, version, got 'hook')");
  refused(text_with(R"("hooks":{"pre":{}})"),
          "unknown key in hooks (expected one of post_commit, post_rollback, post_switch, "
          "pre_upgrade, got 'pre')");
  refused(text_with(R"("hooks":{"pre_upgrade":{"command":["x"],"timeout":1}})"),
          "unknown key in hooks.pre_upgrade (expected one of command, timeout_ms, got 'timeout')");
  refused(text_with(R"("requires":{"os":"linux"})"),
          "unknown key in requires (expected one of agent, arch, rollback_floor, got 'os')");
  refused(text_with(R"("retention":{"keep":3,"days":1})"),
          "unknown key in retention (expected one of keep, got 'days')");
  refused(text_with(R"("rollout":{"watch_ms":3,"steps":[]})"),
          "rollout.steps belongs to the strategy 'handoff' (expected no such key with strategy "
          "'files', which moves all at once, got 'steps')");
  refused(text_with(R"("rollout":{"watch_ms":3,"step":[]})"),
          "unknown key in rollout (expected one of affinity, standby, step_patience_ms, steps, "
          "watch_ms, got 'step')");
  refused(text_with(R"("service":{"command":["x"]})"),
          "unknown key in service (expected one of environment, user, got 'command')");
  refused(text_with(R"("source":{"url":"x"})"),
          "unknown key in source (expected one of repository, revision, got 'url')");
  refused(probe(kTcp, R"("address")", R"("url":"x","address")"),
          "unknown key in probes[0] (expected one of address, failures, initial_delay_ms, "
          "interval_ms, name, successes, timeout_ms, type, got 'url')");
}

TEST(ManifestValues, Keys_that_must_be_there) {
  for (const std::string key : {"app", "created", "schema", "strategy", "version"}) {
    std::string text = text_with_entries("");
    const std::size_t from = text.find('"' + key + "\":");
    const std::size_t comma = text.find(',', from);
    text = comma == std::string::npos ? text.substr(0, from - 1) + '}'
                                      : text.erase(from, comma - from + 1);
    refused(text, key + " is missing (expected a value, got none)");
  }
  refused(small(R"("entries":[],)", ""), "entries is missing (expected an array, got none)");
  refused(text_with(R"("hooks":{"pre_upgrade":{"timeout_ms":1}})"),
          "hooks.pre_upgrade.command is missing (expected a value, got none)");
  refused(text_with(R"("hooks":{"pre_upgrade":{"command":["x"]}})"),
          "hooks.pre_upgrade.timeout_ms is missing (expected a value, got none)");
  refused(text_with(R"("retention":{})"), "retention.keep is missing (expected a value, got none)");
  refused(text_with(R"("rollout":{})"), "rollout.watch_ms is missing (expected a value, got none)");
  refused(probe(kHttp, R"(,"type":"http")", ""),
          "probes[0].type is missing (expected 'exec', 'http' or 'tcp', got none)");
  for (const std::string key : {"name", "url", "expect_status", "failures", "successes",
                                "initial_delay_ms", "interval_ms", "timeout_ms"}) {
    std::string text = kHttp;
    const std::size_t from = text.find('"' + key + "\":");
    const std::size_t comma = text.find(',', from);
    text = comma == std::string::npos ? text.substr(0, from - 1) + '}'
                                      : text.erase(from, comma - from + 1);
    refused(text_with(R"("probes":[)" + text + "]"),
            "probes[0]." + key + " is missing (expected a value, got none)");
  }
}

TEST(ManifestValues, Sections_that_may_be_empty) {
  EXPECT_OK(parse(text_with(
      R"("hooks":{},"probes":[],"requires":{},"service":{"environment":{}},"source":{})")));
}

TEST(ManifestValues, Values_of_the_wrong_type) {
  refused(small(R"("app":"shop")", R"("app":1)"),
          "app has the wrong type (expected a string, got an integer)");
  refused(small(R"("version":"1.4.2")", R"("version":1)"),
          "version has the wrong type (expected a string, got an integer)");
  refused(small(R"("schema":1)", R"("schema":"1")"),
          "schema has the wrong type (expected an integer, got a string)");
  refused(small(R"("strategy":"files")", R"("strategy":null)"),
          "strategy has the wrong type (expected a string, got null)");
  refused(text_with(R"("hooks":[])"),
          "hooks has the wrong type (expected an object, got an array)");
  refused(text_with(R"("hooks":{"pre_upgrade":"x"})"),
          "hooks.pre_upgrade has the wrong type (expected an object, got a string)");
  refused(text_with(R"("hooks":{"pre_upgrade":{"command":"x","timeout_ms":1}})"),
          "hooks.pre_upgrade.command has the wrong type (expected an array, got a string)");
  refused(text_with(R"("hooks":{"pre_upgrade":{"command":["x",1],"timeout_ms":1}})"),
          "hooks.pre_upgrade.command[1] has the wrong type (expected a string, got an integer)");
  refused(text_with(R"("probes":{})"),
          "probes has the wrong type (expected an array, got an object)");
  refused(text_with(R"("probes":[1])"),
          "probes[0] has the wrong type (expected an object, got an integer)");
  refused(text_with(R"("service":{"environment":{"A":1}})"),
          "service.environment.A has the wrong type (expected a string, got an integer)");
  refused(probe(kHttp, R"(["200"])", R"("200")"),
          "probes[0].expect_status has the wrong type (expected an array, got a string)");
  refused(probe(kHttp, R"(["200"])", R"([200])"),
          "probes[0].expect_status[0] has the wrong type (expected a status such as \"200-299\", "
          "got an integer)");
}

TEST(ManifestValues, Schema_and_strategy_are_looked_at_before_keys_that_are_not_known) {
  std::string text = text_with(R"("listeners":[])");
  refused(replaced(text, R"("schema":1)", R"("schema":2)"),
          "the manifest has a schema that this updagent does not read (expected 1, got 2)");
  for (const std::string strategy : {"reload", "wings", ""})
    refused(replaced(text, R"("files")", '"' + strategy + '"'),
            "this version of updagent can't run the strategy '" + strategy +
                "' (expected 'files', 'handoff' or 'restart', got '" + strategy + "')",
            Code::strategy_unsupported);
}

TEST(ManifestValues, App_version_and_created) {
  refused(small("\"shop\"", "\"../shop\""),
          "app is not valid (expected 1 to 64 of a-z, 0-9, '.', '_' and '-', a letter or digit "
          "first, no '..', got '../shop')");
  refused(small("1.4.2", "1.4"),
          "version is not valid (expected a version such as 1.4.2 or 1.5.0-rc.1, got '1.4')");
  refused(small("1.4.2", "1.4.2-" + std::string(59, 'a')),
          "version is not valid (expected a version such as 1.4.2 or 1.5.0-rc.1, got '1.4.2-" +
              std::string(59, 'a') + "')");
  for (const std::string created :
       {"", "2024-06-18", "2024-06-18T17:00:00", "2024-06-18T17:00:00+00:00",
        "2024-06-18T17:00:00.0Z", "2024-06-18t17:00:00Z", "2024-02-30T17:00:00Z",
        "2024-06-18T24:00:00Z", "2024-06-18T17:00:60Z", "1718730000"})
    refused(small("2024-06-18T17:00:00Z", created),
            "created is not valid (expected a time such as '2024-06-18T17:00:00Z', got '" +
                created + "')");
  refused(small("2024-", "1969-"),
          "created is not valid (expected 0 to 8589934591, got -16959600)");
  refused(small("2024-", "2243-"),
          "created is not valid (expected 0 to 8589934591, got 8629606800)");
  EXPECT_OK(parse(small("2024-06-18T17:00:00Z", "1970-01-01T00:00:00Z")));
  EXPECT_OK(parse(small("2024-06-18T17:00:00Z", "2242-03-16T12:56:31Z")));
}

TEST(ManifestValues, Labels_are_one_bounded_line) {
  refused(text_with(R"("builder":"a\nb")"),
          "builder is not valid (expected one line without control bytes, got 'a\\x0ab')");
  refused(text_with(R"("source":{"revision":"\u001b[2J"})"),
          "source.revision is not valid (expected one line without control bytes, got '\\x1b[2J')");
  refused(text_with(R"("source":{"repository":")" + std::string(1025, 'x') + R"("})"),
          "source.repository is not valid (expected at most 1024 bytes, got 1025)");
}

TEST(ManifestValues, Service) {
  for (const std::string user : {"0", "../x", "-x", "a b", "a:b"})
    refused(text_with(R"("service":{"user":")" + user + "\"}"),
            "service.user is not valid (expected the name of a user, got '" + user + "')");
  for (const std::string name : {"", "1A", "A=B", "A-B", "ä"})
    refused(text_with(R"("service":{"environment":{")" + name + R"(":"x"}})"),
            "service.environment is not valid (expected names of letters, digits and '_', no digit "
            "first, got '" +
                name + "')");
  refused(text_with(R"("service":{"environment":{"A":"x\u0000y"}})"),
          "service.environment.A is not valid (expected no NUL, got one)");
  refused(text_with(R"("service":{"environment":{"A":")" + std::string(16385, 'x') + "\"}}"),
          "service.environment.A is not valid (expected at most 16384 bytes, got 16385)");
  std::string variables;
  for (int i = 0; i < 257; ++i) variables += "\"V" + std::to_string(i) + "\":\"\",";
  variables.pop_back();
  refused(text_with(R"("service":{"environment":{)" + variables + "}}"),
          "service.environment is not valid (expected at most 256 variables, got 257)");
}

TEST(ManifestValues, Commands) {
  const auto hook = [](std::string_view command, std::string_view timeout = "1") {
    return text_with(R"("hooks":{"post_switch":{"command":)" + std::string(command) +
                     R"(,"timeout_ms":)" + std::string(timeout) + "}}");
  };
  refused(hook("[]"), "hooks.post_switch.command is not valid (expected 1 to 256 words, got 0)");
  refused(hook(R"([""])"),
          "hooks.post_switch.command[0] is not valid (expected a program, got '')");
  refused(hook(R"(["x","a\u0000b"])"),
          "hooks.post_switch.command[1] is not valid (expected no NUL, got one)");
  std::string words = R"("x")";
  for (int i = 1; i < 256; ++i) words += R"(,"x")";
  EXPECT_OK(parse(hook('[' + words + ']')));
  refused(hook('[' + words + R"(,"x"])"),
          "hooks.post_switch.command is too long (expected at most 256 items, got 257)");
  refused(hook(R"(["x"])", "0"),
          "hooks.post_switch.timeout_ms is not valid (expected 1 ms to 24 h, got 0 ms)");
  refused(hook(R"(["x"])", "86400001"),
          "hooks.post_switch.timeout_ms is not valid (expected 1 ms to 24 h, got 86400001 ms)");
  refused(hook(R"(["x"])", "-1"),
          "hooks.post_switch.timeout_ms is not valid (expected 1 ms to 24 h, got -1 ms)");
  EXPECT_OK(parse(hook(R"(["x",""])", "86400000")));
}

TEST(ManifestValues, Probes_by_type) {
  for (const std::string& valid : {kHttp, kExec, kTcp})
    EXPECT_OK(parse(text_with(R"("probes":[)" + valid + "]")));
  refused(probe(kHttp, R"("type":"http")", R"("type":"https")"),
          "probes[0].type is not valid (expected 'exec', 'http' or 'tcp', got 'https')");
  refused(probe(kExec, R"(["x"])", "[]"),
          "probes[0].command is not valid (expected 1 to 256 words, got 0)");
  refused(probe(kHttp, R"(["200"])", "[]"),
          "probes[0].expect_status is not valid (expected 1 to 32 ranges, got 0)");
  for (const std::string status : {"", "2xx", "200-", "-200", "200-299-300", "0200", "20"})
    refused(probe(kHttp, R"(["200"])", "[\"" + status + "\"]"),
            "probes[0].expect_status[0] is not valid (expected '200' or '200-299', got '" + status +
                "')");
  for (const std::string status : {"099", "600", "299-200", "200-600"})
    refused(probe(kHttp, R"(["200"])", "[\"" + status + "\"]"),
            "probes[0].expect_status is not valid (expected HTTP statuses from 100 to 599, got " +
                (status == "099" ? "99" : status) + ")");
  std::string many;
  for (int i = 0; i < 33; ++i) many += R"("200",)";
  many.pop_back();
  refused(probe(kHttp, R"("200")", many),
          "probes[0].expect_status is too long (expected at most 32 ranges, got 33)");
}

TEST(ManifestValues, Probe_counts_and_times) {
  for (const std::string key : {"failures", "successes"}) {
    const std::string was = "\"" + key + (key == "failures" ? "\":3" : "\":1");
    for (const std::string value : {"0", "-1", "1001"})
      refused(probe(kTcp, was, "\"" + key + "\":" + value),
              "probes[0]." + key + " is not valid (expected 1 to 1000, got " + value + ")");
    refused(probe(kTcp, was, "\"" + key + "\":2147483648"),
            "probes[0]." + key + " is out of range (expected a small number, got 2147483648)");
    EXPECT_OK(parse(probe(kTcp, was, "\"" + key + "\":1000")));
  }
  for (const std::string key : {"interval_ms", "timeout_ms"}) {
    refused(probe(kTcp, "\"" + key + "\":1000", "\"" + key + "\":0"),
            "probes[0]." + key + " is not valid (expected 1 ms to 24 h, got 0 ms)");
    refused(probe(kTcp, "\"" + key + "\":1000", "\"" + key + "\":86400001"),
            "probes[0]." + key + " is not valid (expected 1 ms to 24 h, got 86400001 ms)");
  }
  refused(probe(kTcp, R"("initial_delay_ms":0)", R"("initial_delay_ms":-1)"),
          "probes[0].initial_delay_ms is not valid (expected 0 ms to 24 h, got -1 ms)");
}

TEST(ManifestValues, Probe_names_are_plain_and_unique) {
  for (const std::string name : {"", "a b", "-a", "ä"})
    refused(
        probe(kTcp, R"("name":"p")", R"("name":")" + name + '"'),
        "probes[0].name is not valid (expected 1 to 64 letters, digits, '.', '_' and '-', got '" +
            name + "')");
  refused(text_with(R"("probes":[)" + kTcp + ',' + kExec + "]"),
          "probes[1].name is not valid (expected a name of its own, got 'p')");
  std::string many = kTcp;
  for (int i = 0; i < 32; ++i)
    many += ',' + replaced(kTcp, R"("p")", "\"p" + std::to_string(i) + '"');
  refused(text_with(R"("probes":[)" + many + "]"),
          "probes is too long (expected at most 32 items, got 33)");
}

TEST(ManifestValues, Urls_of_probes) {
  for (const std::string url :
       {"", "h", "ftp://h/", "HTTP://h/", "http://", "http:///x", "http://u@h/", "http://u:p@h/",
        "http://h:0/", "http://h:65536/", "http://h:/", "http://h:x/", "http://[::1",
        "http://[zz]/", "http://h /", "http://-h/"})
    refused(probe(kHttp, "http://h/", url),
            "probes[0].url is not valid (expected http://HOST[:PORT]/... or https://..., no "
            "credentials, got '" +
                url + "')");
  for (const std::string_view url :
       {"http://h", "https://example.org:8443/health?full=1#x", "http://127.0.0.1:65535/",
        "http://[::1]:80/", "http://[::1]", "http://h?x=a@b"})
    EXPECT_TRUE(is_probe_url(url)) << url;
  EXPECT_FALSE(is_probe_url("http://h/\n"));
}

TEST(ManifestValues, Addresses_of_probes) {
  for (const std::string address : {"", "h", "h:", ":80", "h:0", "h:65536", "h:080000", "::1:80",
                                    "[::1]", "[::1]80", "[h]:80", "h:80/", "h:8 0", "a b:80"})
    refused(probe(kTcp, "h:1", address),
            "probes[0].address is not valid (expected HOST:PORT or [IPV6]:PORT, got '" + address +
                "')");
  for (const std::string_view address :
       {"127.0.0.1:1", "db.example.org:65535", "[::1]:5432", "[fe80::1]:1"})
    EXPECT_TRUE(is_host_and_port(address)) << address;
  EXPECT_FALSE(is_host_and_port(std::string_view("[::1\0]:80", 9)));
}

TEST(ManifestValues, Rollout_and_retention) {
  refused(text_with(R"("rollout":{"watch_ms":-1})"),
          "rollout.watch_ms is not valid (expected 0 ms to 24 h, got -1 ms)");
  refused(text_with(R"("rollout":{"watch_ms":86400001})"),
          "rollout.watch_ms is not valid (expected 0 ms to 24 h, got 86400001 ms)");
  refused(text_with(R"("retention":{"keep":0})"),
          "retention.keep is not valid (expected 1 to 1000, got 0)");
  refused(text_with(R"("retention":{"keep":1001})"),
          "retention.keep is not valid (expected 1 to 1000, got 1001)");
}

TEST(ManifestValues, Requirements) {
  refused(text_with(R"("requires":{"agent":"^1.0"})"),
          "requires.agent is not valid (expected one such as '>=1.0.0' or '>=1.2.0, <2.0.0', got "
          "'^1.0')");
  refused(
      text_with(R"("requires":{"arch":"x86/64"})"),
      "requires.arch is not valid (expected a machine name as 'uname -m' prints it, got 'x86/64')");
  refused(text_with(R"("requires":{"rollback_floor":"1"})"),
          "requires.rollback_floor is not valid (expected a version such as 1.4.2 or 1.5.0-rc.1, "
          "got '1')");
  refused(text_with(R"("requires":{"rollback_floor":"1.4.3"})"),
          "requires.rollback_floor is not valid (expected at most the release's own version 1.4.2, "
          "got 1.4.3)");
  EXPECT_OK(parse(text_with(R"("requires":{"rollback_floor":"1.4.2"})")));
}

}  // namespace
}  // namespace updagent::release
