#include "support.hpp"

namespace updagent::release::testing {

constexpr std::int64_t kTime = 1718730000;

base::Result<std::size_t> TextSource::read(std::span<std::uint8_t> into) {
  const std::size_t count = std::min({into.size(), chunk_, text_.size() - at_});
  if (count == 0 && error_) return *error_;
  std::copy_n(text_.begin() + static_cast<std::ptrdiff_t>(at_), count, into.begin());
  at_ += count;
  return count;
}

base::Result<Manifest> parse(const std::string& text) {
  TextSource source(text);
  return parse_manifest(source);
}

std::string write(const Manifest& manifest) {
  std::string out;
  EXPECT_OK(write_manifest(manifest, [&](std::string_view piece) {
    EXPECT_LE(piece.size(), 64U * 1024);
    out += piece;
    return base::ok();
  }));
  return out;
}

namespace {

EntryView entry(std::string_view path, EntryType type, std::uint16_t mode,
                std::string_view target = {}) {
  EntryView out;
  out.path = path;
  out.type = type;
  out.mode = mode;
  out.mtime = kTime;
  out.link_target = target;
  return out;
}

Probe probe(const std::string& name, ProbeType type) {
  Probe out;
  out.name = name;
  out.type = type;
  return out;
}

}  // namespace

EntryView file(std::string_view path, std::uint64_t size) {
  EntryView out = entry(path, EntryType::file, 0644);
  out.size = size;
  out.sha256 = base::sha256(path);
  return out;
}

EntryView directory(std::string_view path) {
  return entry(path, EntryType::directory, 0755);
}

EntryView symlink(std::string_view path, std::string_view target) {
  return entry(path, EntryType::symlink, 0777, target);
}

EntryView hardlink(std::string_view path, std::string_view target) {
  return entry(path, EntryType::hardlink, 0644, target);
}

Manifest small_manifest() {
  Manifest manifest;
  manifest.app = "shop";
  manifest.version = parse_semver("1.4.2").value();
  manifest.created = kTime;
  return manifest;
}

Manifest full_manifest() {
  Manifest manifest = small_manifest();
  manifest.builder = "ci run 42";
  manifest.source_repository = "https://example.org/shop.git";
  manifest.source_revision = "8f14e45f";
  manifest.user = "shop";
  manifest.environment = {{"GREETING", "grüß \"dich\"\n"}, {"MODE", "prod"}};
  manifest.hooks.pre_upgrade = Command{{"bin/migrate", "--expand"}, base::Milliseconds(90'000)};
  manifest.hooks.post_switch = Command{{"bin/hello"}, base::Milliseconds(60'000)};
  manifest.hooks.post_commit = Command{{"/usr/bin/logger", "done"}, base::Milliseconds(1)};
  manifest.hooks.post_rollback = Command{{"bin/undo", ""}, base::Milliseconds(86'400'000)};
  Probe http = probe("healthz", ProbeType::http);
  http.url = "http://127.0.0.1:8080/healthz";
  http.expect_status = {{200, 299}, {304, 304}};
  http.expect_body = "ok";
  Probe exec = probe("compile", ProbeType::exec);
  exec.command.argv = {"bin/tsc", "--version"};
  exec.initial_delay = base::Milliseconds(500);
  Probe tcp = probe("port", ProbeType::tcp);
  tcp.address = "[::1]:8080";
  manifest.probes = {http, exec, tcp};
  manifest.rollout.watch = base::Milliseconds(60'000);
  manifest.keep = 5;
  manifest.needs = {.agent = ">=1.0.0, <2.0.0",
                    .arch = "x86_64",
                    .rollback_floor = parse_semver("1.3.0").value()};
  for (const EntryView& row :
       {directory("bin"), file("bin/migrate", 123), file("bin/tsc", 1ULL << 40),
        symlink("cur", "bin"), file("na\"me\\ü", 0), hardlink("zlink", "bin/migrate")})
    EXPECT_OK(manifest.entries.add(row));
  return manifest;
}

Manifest handoff_manifest() {
  Manifest manifest = small_manifest();
  manifest.strategy = "handoff";
  Service& service = manifest.service.emplace();
  service.command = {"/usr/bin/shop"};
  service.listeners = {{.name = "http", .address = "tcp:0.0.0.0:8080", .user = {}, .group = {}}};
  return manifest;
}

Service full_service() {
  Service service;
  service.command = {"bin/shop", "--fd={fd:http}", "--cache={data}/c", "{{}"};
  service.protocol = Protocol::env;
  service.groups = {"ssl-cert", "adm"};
  service.capabilities = {"CAP_NET_BIND_SERVICE", "CAP_CHOWN"};
  service.rlimits = {{"core", 0}, {"memlock", kUnlimited}, {"nofile", 65536}};
  service.umask = 0077;
  service.ready = Ready::probe;
  service.ready_timeout = base::Milliseconds(1);
  service.drain_timeout = base::Milliseconds(0);
  service.stop_signal = SIGQUIT;
  service.stop_timeout = base::Milliseconds(86'400'000);
  service.reload_signal = SIGHUP;
  service.watchdog = base::Milliseconds(1000);
  service.on_crash_loop = CrashLoop::rollback;
  service.allow_shared = true;
  service.socket_environment = {{"FPM_SOCKETS", "{address:fpm}={fd:fpm}"},
                                {"H3", "{fd:h3} {host:h3} {port:h3}"},
                                {"V6", "{fd:v6} {fd:at}"}};
  service.listeners = {
      {.name = "http", .address = "tcp:0.0.0.0:80", .backlog = 511, .user = {}, .group = {}},
      {.name = "v6", .address = "tcp:[::]:80", .ipv6_only = true, .user = {}, .group = {}},
      {.name = "h3", .address = "udp:127.0.0.1:443", .user = {}, .group = {}},
      {.name = "fpm",
       .address = "unix:/run/shop/fpm.sock",
       .mode = 0666,
       .user = "www-data",
       .group = "web"},
      {.name = "at", .address = "unix:@shop", .user = {}, .group = {}}};
  return service;
}

Manifest full_handoff_manifest() {
  Manifest manifest = small_manifest();
  manifest.strategy = "handoff";
  manifest.user = "shop";
  manifest.environment = {{"HOME_OF_ALL", "{runtime_dir}"}, {"JSON", R"({"a":{"b":1}})"}};
  manifest.service = full_service();
  Probe tcp = probe("port", ProbeType::tcp);
  tcp.address = "127.0.0.1:80";
  manifest.probes = {tcp};
  EntryView program = file("bin/shop", 1);
  program.mode = 0755;
  EXPECT_OK(manifest.entries.add(directory("bin")));
  EXPECT_OK(manifest.entries.add(program));
  return manifest;
}

namespace {

Gate gate(const std::string& name, GateType type) {
  Gate out;
  out.name = name;
  out.type = type;
  out.failures = 1;
  return out;
}

std::vector<Gate> one_gate_of_each_type() {
  Gate alive = gate("alive", GateType::probe);
  alive.probe = "port";
  Gate errors = gate("errors", GateType::scrape);
  errors.url = "http://127.0.0.1:8080/metrics";
  errors.requests = "a";
  errors.errors = "b{c=~\"5..\"}";
  errors.condition = "error_ratio <= 2 x active";
  errors.min_samples = 7;
  errors.failures = 1000;
  Gate fleet = gate("fleet", GateType::prometheus);
  fleet.url = "https://h/prometheus";
  fleet.query = "up";
  fleet.condition = "value >= 1";
  fleet.on_no_data = OnNoData::fail;
  Gate check = gate("check", GateType::exec);
  check.command.argv = {"bin/check"};
  Gate memory = gate("memory", GateType::kernel);
  memory.condition = "memory < 512MiB";
  memory.max_failures = 1'000'000;
  return {alive, errors, fleet, check, memory};
}

}  // namespace

Manifest rollout_manifest() {
  Manifest manifest = handoff_manifest();
  manifest.service->workers = {{.name = "queue", .command = {"/usr/bin/consumer"}}};
  manifest.probes = {probe("port", ProbeType::tcp)};
  manifest.probes[0].address = "127.0.0.1:8080";
  Warmup& warmup = manifest.preflight.warmup.emplace();
  warmup.paths = {"/", "/search?q=a"};
  warmup.listener = "http";
  manifest.preflight.smoke = {Command{{"bin/smoke"}, base::Milliseconds(1)}};
  manifest.rollout.steps = {{1, base::Milliseconds(1000), 50}, {100, base::Milliseconds(0), 0}};
  manifest.rollout.affinity = Affinity::client;
  manifest.rollout.standby = Standby::cold;
  manifest.gates = one_gate_of_each_type();
  return manifest;
}

std::string text_with_entries(std::string_view rows) {
  return R"({"app":"shop","created":"2024-06-18T17:00:00Z","entries":[)" + std::string(rows) +
         R"(],"schema":1,"strategy":"files","version":"1.4.2"})";
}

std::string text_with(std::string_view key_and_value) {
  std::string text = text_with_entries("");
  text.pop_back();
  return text + ',' + std::string(key_and_value) + '}';
}

}  // namespace updagent::release::testing
