// [preflight], [rollout], [[gate]] and [[worker]] of updagent.toml, and what becomes of them in the
// manifest.
#include <gtest/gtest.h>

#include "agent/base/strict_json.hpp"
#include "agent/release/spec.hpp"
#include "support.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Milliseconds;
using testing::expect_error;

std::string service_of(const std::string& strategy) {
  if (strategy == "files") return "";
  return "[service]\ncommand = [\"/usr/bin/shop\"]\n"
         "[[service.listener]]\nname = \"http\"\naddress = \"tcp:0.0.0.0:8080\"\n";
}

base::Result<Manifest> spec(const std::string& strategy, const std::string& text) {
  return parse_spec("app = \"shop\"\nversion = \"1.4.2\"\nstrategy = \"" + strategy + "\"\n" +
                        service_of(strategy) + text,
                    "updagent.toml");
}
base::Result<Manifest> handoff(const std::string& text) {
  return spec("handoff", text);
}

void refused_by(const std::string& strategy, const std::string& text, std::string_view line) {
  expect_error(spec(strategy, text), Code::usage, "updagent.toml: " + std::string(line));
}
void refused(const std::string& text, std::string_view line) {
  refused_by("handoff", text, line);
}
void hinted(const std::string& text, std::string_view hint) {
  const auto result = handoff(text);
  ASSERT_FALSE(result.has_value()) << text;
  EXPECT_EQ(result.error().hint(), hint) << result.error().line();
}

const std::string kGate = "[[gate]]\nname = \"g\"\n";
const std::string kScrape = kGate + "type = \"scrape\"\nurl = \"http://127.0.0.1:8080/metrics\"\n";
const std::string kPrometheus = kGate + "type = \"prometheus\"\nurl = \"http://prometheus:9090\"\n";
const std::string kKernel = kGate + "type = \"kernel\"\n";

constexpr std::string_view kEverything = R"(
[[worker]]
name = "queue"
command = ["/usr/bin/consumer", "--data", "{data}"]
stop_signal = "SIGINT"
stop_timeout = "5s"
[[probe]]
name = "port"
type = "tcp"
address = "127.0.0.1:8080"
[preflight]
warmup = { paths = ["/", "/search?q=a"], count = 20, listener = "http", timeout = "20s" }
smoke = [{ command = ["bin/smoke"], timeout = "15s" }, { command = ["/bin/true"] }]
[rollout]
steps = [1, 10, { percent = 50, duration = "2m", min_connections = 200 }, 100]
step_duration = "40s"
min_connections = 5
step_patience = "5m"
watch = "60s"
affinity = "client"
standby = "cold"
[[gate]]
name = "alive"
type = "probe"
probe = "port"
failures = 5
max_failures = 9
[[gate]]
name = "errors"
type = "scrape"
url = "http://127.0.0.1:8080/metrics"
requests = 'http_requests_total{method!="HEAD"}'
errors = 'http_requests_total{code=~"5.."}'
condition = "error_ratio <= 0.05"
window = "30s"
timeout = "2s"
min_samples = 500
failures = 1
max_failures = 3
on_no_data = "fail"
[[gate]]
name = "slow"
type = "scrape"
url = "http://127.0.0.1:8080/metrics"
latency = "http_request_duration_seconds"
condition = "p99 <= 3.0 x active"
no_data_timeout = "1m"
[[gate]]
name = "hits"
type = "scrape"
url = "http://127.0.0.1:8080/metrics"
numerator = "cache_hits_total"
denominator = "cache_lookups_total"
condition = "ratio >= 0.5 x active"
[[gate]]
name = "fleet"
type = "prometheus"
url = "http://prometheus:9090"
query = 'sum(rate(errors_total{app="$app",version="$version"}[$window]))'
condition = "value <= 2 x active"
[[gate]]
name = "check"
type = "exec"
command = ["bin/check"]
interval = "3s"
timeout = "7s"
[[gate]]
name = "queue"
type = "kernel"
condition = "queue <= 100"
[[gate]]
name = "refused"
type = "kernel"
condition = "accepted_ratio >= 0.99"
min_samples = 50
)";

TEST(SpecRollout, Everything_that_an_author_can_say_of_steps_and_of_what_comes_before_them) {
  const auto manifest = handoff(std::string(kEverything));
  ASSERT_TRUE(manifest.has_value()) << manifest.error().line();
  EXPECT_EQ(manifest->service->workers,
            (std::vector<Worker>{{.name = "queue",
                                  .command = {"/usr/bin/consumer", "--data", "{data}"},
                                  .stop_signal = SIGINT,
                                  .stop_timeout = Milliseconds(5000)}}));
  const Preflight& preflight = manifest->preflight;
  EXPECT_EQ(preflight.warmup->paths, (std::vector<std::string>{"/", "/search?q=a"}));
  EXPECT_EQ(preflight.warmup->count, 20);
  EXPECT_EQ(preflight.warmup->listener, "http");
  EXPECT_EQ(preflight.warmup->timeout, Milliseconds(20'000));
  ASSERT_EQ(preflight.smoke.size(), 2U);
  EXPECT_EQ(preflight.smoke[0].argv, std::vector<std::string>{"bin/smoke"});
  EXPECT_EQ(preflight.smoke[0].timeout, Milliseconds(15'000));
  EXPECT_EQ(preflight.smoke[1].timeout, Milliseconds(60'000));
  const Milliseconds usual(40'000);
  EXPECT_EQ(manifest->rollout, (Rollout{.steps = {{1, usual, 5},
                                                  {10, usual, 5},
                                                  {50, Milliseconds(120'000), 200},
                                                  {100, usual, 5}},
                                        .step_patience = Milliseconds(300'000),
                                        .watch = Milliseconds(60'000),
                                        .affinity = Affinity::client,
                                        .standby = Standby::cold}));
}

TEST(SpecRollout, Everything_that_an_author_can_say_of_gates) {
  const auto manifest = handoff(std::string(kEverything));
  ASSERT_TRUE(manifest.has_value()) << manifest.error().line();
  ASSERT_EQ(manifest->gates.size(), 8U);
  const Gate& alive = manifest->gates[0];
  EXPECT_EQ(alive.type, GateType::probe);
  EXPECT_EQ(alive.probe, "port");
  EXPECT_EQ(alive.failures, 5);
  EXPECT_EQ(alive.max_failures, 9);
  const Gate& errors = manifest->gates[1];
  EXPECT_EQ(errors.type, GateType::scrape);
  EXPECT_EQ(errors.url, "http://127.0.0.1:8080/metrics");
  EXPECT_EQ(errors.requests, "http_requests_total{method!=\"HEAD\"}");
  EXPECT_EQ(errors.errors, "http_requests_total{code=~\"5..\"}");
  EXPECT_EQ(errors.condition, "error_ratio <= 0.05");
  EXPECT_EQ(errors.window, Milliseconds(30'000));
  EXPECT_EQ(errors.timeout, Milliseconds(2000));
  EXPECT_EQ(errors.min_samples, 500);
  EXPECT_EQ(errors.failures, 1);
  EXPECT_EQ(errors.max_failures, 3);
  EXPECT_EQ(errors.on_no_data, OnNoData::fail);
  EXPECT_EQ(manifest->gates[2].latency, "http_request_duration_seconds");
  EXPECT_EQ(manifest->gates[2].no_data_timeout, Milliseconds(60'000));
  EXPECT_EQ(manifest->gates[3].numerator, "cache_hits_total");
  EXPECT_EQ(manifest->gates[3].denominator, "cache_lookups_total");
  EXPECT_EQ(manifest->gates[4].query,
            "sum(rate(errors_total{app=\"$app\",version=\"$version\"}[$window]))");
  const Gate& check = manifest->gates[5];
  EXPECT_EQ(check.command.argv, std::vector<std::string>{"bin/check"});
  EXPECT_EQ(check.window, Milliseconds(3000));
  EXPECT_EQ(check.command.timeout, Milliseconds(7000));
  EXPECT_EQ(manifest->gates[7].min_samples, 50);
}

TEST(SpecRollout, The_manifest_keeps_all_of_it) {
  const auto manifest = handoff(std::string(kEverything));
  ASSERT_TRUE(manifest.has_value()) << manifest.error().line();
  const std::string text = testing::write(*manifest);
  const auto again = testing::parse(text);
  ASSERT_TRUE(again.has_value()) << again.error().line();
  EXPECT_EQ(again->rollout, manifest->rollout);
  EXPECT_EQ(again->service, manifest->service);
  EXPECT_EQ(testing::write(*again), text);
  const base::Json tree = base::Json::parse(text);
  EXPECT_EQ(tree["rollout"].dump(),
            R"({"affinity":"client","standby":"cold","step_patience_ms":300000,"steps":[)"
            R"({"duration_ms":40000,"min_connections":5,"percent":1},)"
            R"({"duration_ms":40000,"min_connections":5,"percent":10},)"
            R"({"duration_ms":120000,"min_connections":200,"percent":50},)"
            R"({"duration_ms":40000,"min_connections":5,"percent":100}],"watch_ms":60000})");
  EXPECT_EQ(tree["gates"][0].dump(), R"({"failures":5,"max_failures":9,"name":"alive",)"
                                     R"("probe":"port","type":"probe"})");
  EXPECT_EQ(tree["gates"][5].dump(), R"({"command":["bin/check"],"failures":3,"interval_ms":3000,)"
                                     R"("name":"check","timeout_ms":7000,"type":"exec"})");
  EXPECT_EQ(tree["gates"][6].dump(), R"({"condition":"queue <= 100","failures":2,"name":"queue",)"
                                     R"("type":"kernel","window_ms":10000})");
  EXPECT_EQ(tree["preflight"].dump(),
            R"({"smoke":[{"command":["bin/smoke"],"timeout_ms":15000},)"
            R"({"command":["/bin/true"],"timeout_ms":60000}],)"
            R"("warmup":{"count":20,"listener":"http","paths":["/","/search?q=a"],)"
            R"("timeout_ms":20000}})");
  EXPECT_EQ(tree["service"]["workers"].dump(),
            R"([{"command":["/usr/bin/consumer","--data","{data}"],"name":"queue",)"
            R"("stop_signal":"SIGINT","stop_timeout_ms":5000}])");
}

TEST(SpecRollout, A_handoff_is_watched_where_nothing_is_said) {
  EXPECT_EQ(handoff("").value().rollout.watch, kDefaultHandoffWatch);
  EXPECT_EQ(handoff("[rollout]\nstandby = \"cold\"").value().rollout.watch, kDefaultHandoffWatch);
  EXPECT_EQ(handoff("[rollout]\nwatch = \"0s\"").value().rollout.watch, Milliseconds(0));
  EXPECT_EQ(spec("restart", "").value().rollout.watch, Milliseconds(0));
  EXPECT_EQ(spec("files", "").value().rollout.watch, Milliseconds(0));
  // What is signed says what holds: nothing means none.
  const auto old = testing::parse(testing::write(testing::handoff_manifest()));
  EXPECT_EQ(old.value().rollout.watch, Milliseconds(0));
  const auto none = testing::parse(testing::write(handoff("[rollout]\nwatch = \"0s\"").value()));
  EXPECT_EQ(none.value().rollout, Rollout());
}

TEST(SpecRollout, Defaults_of_what_is_not_said) {
  const auto manifest =
      handoff("[rollout]\nsteps = [100]\n[preflight]\nwarmup = { paths = [\"/\"] }\n" + kScrape +
              "condition = \"error_ratio <= 0.05\"\n");
  ASSERT_TRUE(manifest.has_value()) << manifest.error().line();
  EXPECT_EQ(manifest->rollout.steps, (std::vector<Step>{{100, Milliseconds(30'000), 0}}));
  EXPECT_EQ(manifest->rollout.step_patience, Milliseconds(600'000));
  EXPECT_EQ(manifest->preflight.warmup->count, 1);
  EXPECT_EQ(manifest->preflight.warmup->timeout, Milliseconds(30'000));
  const Gate& gate = manifest->gates.at(0);
  EXPECT_EQ(gate.window, Milliseconds(10'000));
  EXPECT_EQ(gate.timeout, Milliseconds(5000));
  EXPECT_EQ(gate.failures, 2);
  EXPECT_EQ(gate.min_samples, 0);
  EXPECT_EQ(gate.on_no_data, OnNoData::pause);
  EXPECT_EQ(gate.no_data_timeout, Milliseconds(300'000));
}

TEST(SpecRollout, Steps_go_up_to_all_connections) {
  refused("[rollout]\nsteps = [1, 10]",
          "rollout.steps is not valid (expected 100 as the last step, got 10)");
  refused("[rollout]\nsteps = [10, 10, 100]",
          "rollout.steps[1].percent is not valid (expected more than the step before it has, 10, "
          "got 10)");
  refused("[rollout]\nsteps = [0, 100]",
          "rollout.steps[0].percent is not valid (expected 1 to 100, got 0)");
  refused("[rollout]\nsteps = [101]",
          "rollout.steps[0].percent is not valid (expected 1 to 100, got 101)");
  refused("[rollout]\nsteps = [\"1%\", 100]",
          "rollout.steps[0] has the wrong type (expected a number of percent, or a table such as { "
          "percent = 50, duration = \"2m\" }, got a string)");
  refused("[rollout]\nsteps = [{ duration = \"1s\" }, 100]",
          "rollout.steps[0].percent is missing (expected a value, got none)");
  refused("[rollout]\nsteps = [{ percent = 1, connections = 1 }, 100]",
          "unknown key in rollout.steps[0] (expected one of percent, duration, min_connections, "
          "got 'connections')");
  refused("[rollout]\nsteps = [{ percent = 1, duration = \"25h\" }, 100]",
          "rollout.steps[0].duration is not valid (expected 0 ms to 24 h, got 90000000 ms)");
  refused("[rollout]\nsteps = [100]\nmin_connections = -1",
          "rollout.steps[0].min_connections is not valid (expected 0 to 1000000000, got -1)");
  refused("[rollout]\nsteps = 100",
          "rollout.steps has the wrong type (expected an array, got an integer)");
  std::string many = "1";
  for (int i = 2; i <= 33; ++i) many += ", " + std::to_string(i);
  refused("[rollout]\nsteps = [" + many + "]",
          "rollout.steps is too long (expected at most 32 items, got 33)");
  EXPECT_OK(handoff("[rollout]\nsteps = []"));
}

TEST(SpecRollout, Keys_of_steps_are_refused_without_steps) {
  for (const auto& [key, value] : {std::pair("step_duration", "\"1s\""),
                                   {"min_connections", "1"},
                                   {"step_patience", "\"1s\""}})
    refused("[rollout]\n" + std::string(key) + " = " + value,
            "rollout." + std::string(key) +
                " is of no use without steps (expected steps as well, such as [1, 10, 100], got '" +
                key + "')");
}

TEST(SpecRollout, What_only_a_handoff_can_do_says_so) {
  for (const std::string strategy : {"files", "restart"}) {
    for (const auto& [key, value] :
         {std::pair("steps", "[100]"), {"affinity", "\"connection\""}, {"standby", "\"warm\""}})
      refused_by(strategy, "[rollout]\n" + std::string(key) + " = " + value,
                 "rollout." + std::string(key) +
                     " belongs to the strategy 'handoff' (expected no such key with strategy '" +
                     strategy + "', which moves all at once, got '" + key + "')");
    refused_by(
        strategy, "[preflight]",
        "preflight belongs to the strategy 'handoff' (expected no such section with strategy '" +
            strategy + "', which has nothing to try out beside what serves, got one)");
    refused_by(
        strategy, kScrape + "condition = \"error_ratio <= 2 x active\"",
        "gate[0].condition is not valid (expected no 'x active' with strategy '" + strategy +
            "', where nothing serves beside the new release, got 'error_ratio <= 2 x active')");
    EXPECT_OK(spec(strategy,
                   "[rollout]\nwatch = \"5s\"\n" + kScrape + "condition = \"error_ratio <= 0.2\""));
  }
  refused("[rollout]\naffinity = \"ip\"",
          "rollout.affinity is not valid (expected one of client, connection, got 'ip')");
  refused("[rollout]\nstandby = \"hot\"",
          "rollout.standby is not valid (expected one of cold, warm, got 'hot')");
}

TEST(SpecRollout, Only_releases_with_a_process_have_gates_on_it) {
  for (const auto& [type, key] :
       {std::pair("kernel", "condition = \"queue <= 1\""), {"probe", "probe = \"p\""}})
    refused_by("files", kGate + "type = \"" + type + "\"\n" + key,
               "gate[0].type is not valid (expected 'exec', 'prometheus' or 'scrape' with strategy "
               "'files', which starts no process, got '" +
                   std::string(type) + "')");
  EXPECT_OK(spec("restart", kKernel + "condition = \"queue <= 1\""));
  EXPECT_OK(spec("files", kPrometheus + "query = \"up\"\ncondition = \"value >= 1\""));
  EXPECT_OK(spec("files", kGate + "type = \"exec\"\ncommand = [\"x\"]"));
}

TEST(SpecRollout, Each_type_of_gate_has_keys_of_its_own) {
  refused(kGate,
          "gate[0].type is missing (expected one of exec, kernel, probe, prometheus, scrape, got "
          "none)");
  refused(kGate + "type = \"scrap\"",
          "gate[0].type is not valid (expected one of exec, kernel, probe, prometheus, scrape, got "
          "'scrap')");
  hinted(kGate + "type = \"scrap\"", "did you mean 'scrape'?");
  refused(kKernel + "condition = \"queue <= 1\"\ntimeout = \"1s\"",
          "unknown key in gate[0] (expected one of name, type, condition, window, min_samples, "
          "failures, "
          "max_failures, got 'timeout')");
  refused(
      kGate + "type = \"exec\"\ncommand = [\"x\"]\nwindow = \"1s\"",
      "unknown key in gate[0] (expected one of name, type, command, interval, timeout, failures, "
      "max_failures, got 'window')");
  refused(kGate + "type = \"probe\"\nprobe = \"p\"\ncondition = \"x\"",
          "unknown key in gate[0] (expected one of name, type, probe, failures, max_failures, got "
          "'condition')");
  refused(kScrape, "gate[0].condition is missing (expected a value, got none)");
  refused(kPrometheus + "condition = \"value <= 1\"",
          "gate[0].query is missing (expected a value, got none)");
  refused("[gate]\nname = \"g\"",
          "gate has the wrong type (expected an array of tables, got a table)");
}

TEST(SpecRollout, Gates_are_told_apart_by_name) {
  const std::string gate = kKernel + "condition = \"queue <= 1\"\n";
  refused(gate + gate, "gate[1].name is not valid (expected a name of its own, got 'g')");
  refused(
      "[[gate]]\nname = \"a b\"\ntype = \"kernel\"\ncondition = \"queue <= 1\"",
      "gate[0].name is not valid (expected 1 to 64 letters, digits, '.', '_' and '-', got 'a b')");
  std::string many;
  for (int i = 0; i < 33; ++i)
    many += "[[gate]]\nname = \"g" + std::to_string(i) +
            "\"\ntype = \"kernel\"\ncondition = \"queue <= 1\"\n";
  refused(many, "gate is too long (expected at most 32 items, got 33)");
}

TEST(SpecRollout, A_probe_gate_names_a_probe_of_the_release) {
  const std::string probe = "[[probe]]\nname = \"port\"\ntype = \"tcp\"\naddress = \"h:1\"\n";
  refused(probe + kGate + "type = \"probe\"\nprobe = \"prt\"",
          "gate[0].probe is not valid (expected the name of one in 'probe', got 'prt')");
  hinted(probe + kGate + "type = \"probe\"\nprobe = \"prt\"", "did you mean 'port'?");
}

TEST(SpecRollout, Keys_of_a_scrape_fit_its_condition) {
  const std::string ratio = "condition = \"ratio <= 0.5\"\n";
  refused(kScrape + ratio + "numerator = \"a\"",
          "gate[0].denominator is missing (expected a counter's selector, of which the condition "
          "wants the ratio, got none)");
  refused(kScrape + ratio + "denominator = \"a\"",
          "gate[0].numerator is missing (expected a counter's selector, of which the condition "
          "wants the ratio, got none)");
  const std::string errors = "condition = \"error_ratio <= 0.5\"\n";
  for (const std::string key : {"numerator", "denominator", "latency"})
    refused(kScrape + errors + key + " = \"a\"",
            "gate[0]." + key +
                " is not valid (expected no such key with a condition on 'error_ratio', got 'a')");
  for (const std::string key : {"requests", "errors"})
    refused(kScrape + "condition = \"p99.9 <= 0.5\"\n" + key + " = \"a\"",
            "gate[0]." + key +
                " is not valid (expected no such key with a condition on 'p99.9', got 'a')");
  refused(kScrape + "condition = \"p50 <= 1\"\nlatency = \"x_bucket\"",
          "gate[0].latency is not valid (expected the name of the histogram, without '_bucket', "
          "got 'x_bucket')");
  refused(kScrape + errors + "requests = \"a{b}\"",
          "gate[0].requests is not valid (expected '=', '!=', '=~' or '!~' after the label 'b', "
          "got '}')");
}

TEST(SpecRollout, Urls_and_queries_of_gates) {
  refused(
      kGate + "type = \"scrape\"\nurl = \"http://u:p@h/\"\ncondition = \"error_ratio <= 0.5\"",
      "gate[0].url is not valid (expected http://HOST[:PORT]/... or https://..., no credentials, "
      "got 'http://u:p@h/')");
  refused(
      kGate +
          "type = \"prometheus\"\nurl = \"http://h/?a\"\nquery = \"up\"\ncondition = \"value <= "
          "1\"",
      "gate[0].url is not valid (expected the address of the server alone, without '?' and '#', "
      "got 'http://h/?a')");
  refused(kPrometheus + "query = \"\"\ncondition = \"value <= 1\"",
          "gate[0].query is not valid (expected a PromQL query, got '')");
  refused(kPrometheus + "query = 'x{v=\"$versoin\"}'\ncondition = \"value <= 1\"",
          "gate[0].query is not valid (expected only $app, $generation, $version and $window, got "
          "'$versoin')");
  hinted(kPrometheus + "query = 'x{v=\"$versoin\"}'\ncondition = \"value <= 1\"",
         "did you mean '$version'?");
  refused(kPrometheus + "query = 'x{a=\"$app\"}'\ncondition = \"value <= 2 x active\"",
          "gate[0].query is not valid (expected $version or $generation in it, for a condition "
          "beside the "
          "active generation, got 'x{a=\"$app\"}')");
  EXPECT_OK(
      handoff(kPrometheus + "query = 'x{g=\"$generation\"}'\ncondition = \"value <= 2 x active\""));
  EXPECT_OK(handoff(kPrometheus +
                    "query = 'label_replace(x{a=~\"b$\"}, \"c\", \"$1\", \"d\", \"(.*)\")'\n"
                    "condition = \"value <= 2\""));
}

TEST(SpecRollout, Bounds_of_gates) {
  const std::string gate = kScrape + "condition = \"error_ratio <= 0.5\"\n";
  refused(gate + "window = \"499ms\"",
          "gate[0].window is not valid (expected 500 ms to 24 h, got 499 ms)");
  refused(gate + "timeout = \"0s\"",
          "gate[0].timeout is not valid (expected 1 ms to 24 h, got 0 ms)");
  refused(gate + "failures = 0", "gate[0].failures is not valid (expected 1 to 1000, got 0)");
  refused(gate + "max_failures = -1",
          "gate[0].max_failures is not valid (expected 0 to 1000000, got -1)");
  refused(gate + "min_samples = 1000000001",
          "gate[0].min_samples is not valid (expected 0 to 1000000000, got 1000000001)");
  refused(gate + "no_data_timeout = \"0s\"",
          "gate[0].no_data_timeout is not valid (expected 1 ms to 24 h, got 0 ms)");
  refused(gate + "on_no_data = \"wait\"",
          "gate[0].on_no_data is not valid (expected one of fail, pause, got 'wait')");
  refused(gate + "on_no_data = \"fail\"\nno_data_timeout = \"1s\"",
          "gate[0].no_data_timeout is not valid (expected no such key with on_no_data = 'fail', "
          "which waits for nothing, got one)");
  refused(
      kKernel + "condition = \"queue <= 5\"\nmin_samples = 5",
      "gate[0].min_samples is not valid (expected no such key but for 'accepted_ratio', got 5)");
  refused(kGate + "type = \"exec\"\ncommand = []",
          "gate[0].command is not valid (expected 1 to 256 words, got 0)");
  refused(kGate + "type = \"exec\"\ncommand = [\"x\"]\ninterval = \"0s\"",
          "gate[0].interval is not valid (expected 1 ms to 24 h, got 0 ms)");
}

TEST(SpecRollout, A_warmup_asks_for_paths_of_a_tcp_listener) {
  const auto warmup = [](const std::string& text) {
    return "[preflight]\nwarmup = { " + text + " }";
  };
  refused(warmup("count = 1"), "preflight.warmup.paths is missing (expected a value, got none)");
  refused(warmup("paths = []"),
          "preflight.warmup.paths is not valid (expected 1 to 64 paths, got 0)");
  for (const std::string path : {"", "x", "http://h/", "/a b", "/ü", "/a#b", "/a\\n"})
    EXPECT_FALSE(handoff(warmup("paths = [\"" + path + "\"]")).has_value()) << path;
  refused(
      warmup("paths = [\"x\"]"),
      "preflight.warmup.paths[0] is not valid (expected a path that begins with '/', at most 4096 "
      "visible ASCII characters without '#', got 'x')");
  refused(warmup("paths = [\"/\"], count = 10001"),
          "preflight.warmup.count is not valid (expected 1 to 10000, got 10001)");
  refused(warmup("paths = [\"/\"], timeout = \"0s\""),
          "preflight.warmup.timeout is not valid (expected 1 ms to 24 h, got 0 ms)");
  refused(
      warmup("paths = [\"/\"], listener = \"htp\""),
      "preflight.warmup.listener is not valid (expected the name of a tcp listener, got 'htp')");
  refused("[[service.listener]]\nname = \"u\"\naddress = \"unix:@u\"\n" +
              warmup("paths = [\"/\"], listener = \"u\""),
          "preflight.warmup.listener is not valid (expected the name of a tcp listener, got 'u')");
}

TEST(SpecRollout, Smoke_commands_are_commands) {
  refused("[preflight]\nsmoke = [{ command = [] }]",
          "preflight.smoke[0].command is not valid (expected 1 to 256 words, got 0)");
  refused("[preflight]\nsmoke = [{ timeout = \"1s\" }]",
          "preflight.smoke[0].command is missing (expected a value, got none)");
  refused("[preflight]\nsmoke = [{ command = [\"x\"], timeout = \"0s\" }]",
          "preflight.smoke[0].timeout is not valid (expected 1 ms to 24 h, got 0 ms)");
  refused("[preflight]\nwarm_up = {}",
          "unknown key in preflight (expected one of smoke, warmup, got 'warm_up')");
  std::string many;
  for (int i = 0; i < 17; ++i) many += "{ command = [\"x\"] }, ";
  refused("[preflight]\nsmoke = [" + many + "]",
          "preflight.smoke is too long (expected at most 16 items, got 17)");
}

TEST(SpecRollout, Workers_have_names_and_commands_without_sockets) {
  const auto worker = [](const std::string& name, const std::string& more) {
    return "[[worker]]\nname = \"" + name + "\"\n" + more + "\n";
  };
  const std::string command = "command = [\"x\"]";
  refused(worker("a", ""), "worker[0].command is missing (expected a value, got none)");
  refused(worker("a", command) + worker("a", command),
          "worker[1].name is not valid (expected a name of its own, got 'a')");
  refused(worker("a b", command),
          "worker[0].name is not valid (expected 1 to 64 letters, digits, '.', '_' and '-', got 'a "
          "b')");
  refused(
      worker("a", "command = [\"x\", \"{fd:http}\"]"),
      "worker[0].command[1] is not valid (expected no placeholders of listeners: a worker has no "
      "sockets, got '{fd:http}')");
  refused(
      worker("a", "command = [\"x\", \"{dta}\"]"),
      "worker[0].command[1] has a placeholder that is none (expected one of {release} {version} "
      "{generation} {runtime_dir} {data} {fd:NAME} {address:NAME} {host:NAME} {port:NAME}, or '{{' "
      "for a brace, got '{dta}')");
  refused(worker("a", command + "\nstop_signal = \"SIGKILL\""),
          "worker[0].stop_signal is not valid (expected one of SIGHUP, SIGINT, SIGQUIT, SIGTERM, "
          "SIGUSR1, "
          "SIGUSR2, SIGWINCH, got 'SIGKILL')");
  refused(worker("a", command + "\nstop_timeout = \"0s\""),
          "worker[0].stop_timeout is not valid (expected 1 ms to 24 h, got 0 ms)");
  refused("[worker]\nname = \"a\"",
          "worker has the wrong type (expected an array of tables, got a table)");
  const auto usual = spec("restart", worker("a", command));
  ASSERT_TRUE(usual.has_value()) << usual.error().line();
  EXPECT_EQ(usual->service->workers.at(0), (Worker{.name = "a",
                                                   .command = {"x"},
                                                   .stop_signal = SIGTERM,
                                                   .stop_timeout = Milliseconds(10'000)}));
}

TEST(SpecRollout, A_role_signal_and_the_proxy_header_are_of_the_service) {
  const std::string start =
      "app = \"shop\"\nversion = \"1.4.2\"\nstrategy = \"handoff\"\n"
      "[service]\ncommand = [\"/usr/bin/shop\"]\nrole_signal = \"SIGUSR1\"\n";
  const auto manifest = parse_spec(
      start +
          "[[service.listener]]\nname = \"h\"\naddress = \"tcp:[::]:80\"\nproxy_protocol = true",
      "x");
  ASSERT_TRUE(manifest.has_value()) << manifest.error().line();
  EXPECT_EQ(manifest->service->role_signal, SIGUSR1);
  EXPECT_TRUE(manifest->service->listeners[0].proxy_protocol);
  const auto again = testing::parse(testing::write(*manifest));
  EXPECT_EQ(again.value().service, manifest->service);
  for (const std::string address : {"unix:@a", "udp:1.2.3.4:80"})
    expect_error(
        parse_spec(start + "[[service.listener]]\nname = \"h\"\naddress = \"" + address +
                       "\"\nproxy_protocol = true",
                   "x"),
        Code::usage,
        "x: service.listener[0].proxy_protocol is not valid (expected no such key but for tcp, "
        "got 'proxy_protocol' with '" +
            address + "')");
}

}  // namespace
}  // namespace updagent::release
