// adopt: a service that something else started becomes ours, without noticing.
#include <memory>
#include <sstream>

#include "agent/base/file_lock.hpp"
#include "agent/base/files.hpp"
#include "agent/base/text.hpp"
#include "agent/deploy/driver_lock.hpp"
#include "agent/deploy/node.hpp"
#include "agent/deploy/policy.hpp"
#include "agent/deploy/supervise.hpp"
#include "agent/release/spec.hpp"
#include "agent/trust/trust.hpp"
#include "cli/artifact_input.hpp"
#include "cli/verbs.hpp"

namespace updagent::cli {
namespace {

using base::Code;
using base::Error;
using base::Exit;

// Below everything that is ever deployed; a release of its own it is not.
constexpr const char* kAdoptedVersion = "0.0.0-adopted";
constexpr std::size_t kMaxCgroupText = 64 * 1024;
constexpr std::string_view kUnitSuffix = ".service";

struct AdoptOptions {
  std::string app;
  int pid = 0;
  std::string spec;
  std::string release;
};

base::Result<release::Manifest> signed_description(Session& session, const AdoptOptions& options) {
  UPD_ASSIGN(const auto input, ArtifactInput::open(session, options.release));
  UPD_ASSIGN(const config::Settings settings, session.settings(options.app));
  UPD_ASSIGN(const trust::TrustSet keys,
             session.options().trust.empty()
                 ? trust::load_trust(session.layout().trust(), options.app, settings.app.threshold)
                 : trust::load_trust_from(session.options().trust, settings.app.threshold));
  UPD_ASSIGN(const std::string envelope, input->reader().read_envelope());
  UPD_ASSIGN(const trust::Verified verified, trust::verify_envelope(envelope, keys));
  return input->manifest(verified.statement.manifest_digest);
}

base::Result<release::Manifest> description(Session& session, const AdoptOptions& options) {
  if (!options.release.empty()) return signed_description(session, options);
  if (!options.spec.empty()) {
    UPD_ASSIGN(const std::string text, base::read_file(options.spec, release::kMaxSpecBytes));
    return release::parse_spec(text, options.spec, {std::nullopt, kAdoptedVersion});
  }
  UPD_ASSIGN(const store::AppStore store,
             store::AppStore::open(session.layout().app(options.app), options.app, false));
  UPD_ASSIGN(const store::Links links, store.links());
  if (links.committed) return store.description(*links.committed);
  return Error(Code::usage, "where the service listens is not known")
      .expected("--spec FILE (an updagent.toml), or --release FILE")
      .got("neither, and no committed release of '" + options.app + "'");
}

base::Result<std::string> service_text(Session& session, const AdoptOptions& options) {
  UPD_ASSIGN(release::Manifest manifest, description(session, options));
  if (manifest.app != options.app)
    return Error(Code::usage, "this description is another app's")
        .expected(options.app)
        .got(manifest.app);
  UPD_ASSIGN(const config::Settings settings, session.settings(options.app));
  const config::Layout& layout = session.layout();
  UPD_ASSIGN(const std::string user,
             deploy::user_for(manifest, settings.app, ::geteuid() == 0, base::own_identity().user,
                              layout.etc + "/apps.d/" + options.app + ".toml"));
  UPD_ASSIGN(config::ServiceResolution found,
             deploy::resolve(manifest, layout, settings.app, user));
  found.run.version = kAdoptedVersion;
  return release::resolved_service_to_json(found.run, Code::config_invalid);
}

// "nginx.service" when systemd runs the process, by the last part of its cgroup; "" otherwise.
std::string unit_of(int pid) {
  const auto text = base::read_file("/proc/" + std::to_string(pid) + "/cgroup", kMaxCgroupText);
  if (!text) return "";
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);) {
    const std::string name = line.substr(line.find_last_of('/') + 1);
    if (name.ends_with(kUnitSuffix)) return name;
  }
  return "";
}

// What keeps whoever started it from starting it again, into our addresses.
std::vector<std::string> what_to_disable(int pid) {
  if (const std::string unit = unit_of(pid); !unit.empty())
    return {"systemctl disable " + unit, "mkdir -p /etc/systemd/system/" + unit +
                                             ".d && printf '[Service]\\nRestart=no\\n' > "
                                             "/etc/systemd/system/" +
                                             unit + ".d/updagent.conf && systemctl daemon-reload"};
  const auto name = base::read_file("/proc/" + std::to_string(pid) + "/comm", kMaxCgroupText);
  const std::string command = name ? name->substr(0, name->find('\n')) : "";
  if (!command.empty() && base::exists("/etc/init.d/" + command))
    return {"update-rc.d " + command + " disable"};
  return {};
}

base::Result<Json> adopt(Session& session, const AdoptOptions& options) {
  if (!release::is_app_name(options.app))
    return Error(Code::usage, "this is no app name").got("'" + options.app + "'");
  UPD_ASSIGN(const std::string text, service_text(session, options));
  UPD_TRY(deploy::prepare_root(session.layout()));
  UPD_TRY(store::AppStore::open(session.layout().app(options.app), options.app, true));
  // no deployment meanwhile; and a unit comes up, though nothing was ever committed
  UPD_ASSIGN(const auto lock, deploy::take_driver_lock(session.layout(), options.app,
                                                       base::Milliseconds(0), nullptr));
  UPD_ASSIGN(service::Client client, deploy::ensure_supervisor(session.layout(), options.app));
  UPD_ASSIGN(const base::UniqueFd service, service::text_descriptor(text));
  UPD_ASSIGN(const base::Json answer, client.ask("adopt", {{"pid", options.pid}}, service.get()));
  return Json{{"app", options.app},
              {"pid", options.pid},
              {"generation", answer.value("generation", 0)},
              {"mechanism", answer.value("mechanism", std::string())},
              {"reason", answer.value("reason", std::string())},
              {"not_adopted", answer.value("others", std::vector<std::string>())},
              {"disable", what_to_disable(options.pid)}};
}

Exit run_adopt(Session& session, const AdoptOptions& options) {
  const auto adopted = adopt(session, options);
  if (!adopted) return session.fail(adopted.error());
  session.document(*adopted);
  session.print("adopted  " + options.app + ", pid " + std::to_string(options.pid) +
                ", generation " + std::to_string((*adopted)["generation"].get<int>()));
  if ((*adopted)["mechanism"] == "shared")
    session.warning("its connections are shared and not steered: " +
                    (*adopted)["reason"].get<std::string>());
  for (const Json& address : (*adopted)["not_adopted"])
    session.warning("it listens at " + address.get<std::string>() +
                    ", too: no listener of the description is there, nobody takes that over");
  if (!(*adopted)["disable"].empty())
    session.print("what started it must not start it again; run:");
  for (const Json& command : (*adopted)["disable"])
    session.print("  " + command.get<std::string>());
  session.print("next: updagent apply a release of " + options.app + "; it takes over from this");
  return Exit::done;
}

}  // namespace

Run setup_adopt(CLI::App& command) {
  const auto options = std::make_shared<AdoptOptions>();
  command.add_option("APP", options->app, "the app")->required();
  command.add_option("--pid", options->pid, "the service's main process")
      ->required()
      ->check(CLI::PositiveNumber);
  auto* spec =
      command.add_option("--spec", options->spec, "an updagent.toml that says where it listens")
          ->type_name("FILE");
  command.add_option("--release", options->release, "a signed release that says so")
      ->type_name("FILE|URL")
      ->excludes(spec);
  return [options](Session& session) { return run_adopt(session, *options); };
}

}  // namespace updagent::cli
