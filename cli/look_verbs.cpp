// inspect and verify: looking at a release or an installed tree without changing anything.
#include <memory>

#include "agent/base/text.hpp"
#include "agent/deploy/policy.hpp"
#include "agent/store/store.hpp"
#include "agent/trust/trust.hpp"
#include "cli/artifact_input.hpp"
#include "cli/verbs.hpp"

namespace updagent::cli {
namespace {

using base::Code;
using base::Error;
using base::Exit;

constexpr std::size_t kMaxListed = 100'000;  // entries that --files prints

class NullSink : public release::EntrySink {
 public:
  base::Status directory(const release::EntryView&) override { return base::ok(); }
  base::Status begin_file(const release::EntryView&) override { return base::ok(); }
  base::Status file_bytes(std::span<const std::uint8_t>) override { return base::ok(); }
  base::Status end_file() override { return base::ok(); }
  base::Status symlink(const release::EntryView&) override { return base::ok(); }
  base::Status hardlink(const release::EntryView&) override { return base::ok(); }
};

base::Result<trust::TrustSet> trusted_keys(Session& session, const std::string& app) {
  UPD_ASSIGN(const config::Settings settings, session.settings(app));
  if (!session.options().trust.empty())
    return trust::load_trust_from(session.options().trust, settings.app.threshold);
  return trust::load_trust(session.layout().trust(), app, settings.app.threshold);
}

Json command_json(const std::optional<release::Command>& command) {
  if (!command) return nullptr;
  return {{"command", command->argv}, {"timeout", base::format_duration(command->timeout)}};
}

std::string_view probe_type(release::ProbeType type) {
  switch (type) {
    case release::ProbeType::exec:
      return "exec";
    case release::ProbeType::http:
      return "http";
    case release::ProbeType::tcp:
      return "tcp";
  }
  return "";
}

std::string probe_target(const release::Probe& probe) {
  switch (probe.type) {
    case release::ProbeType::exec:
      return base::join(probe.command.argv, " ");
    case release::ProbeType::http:
      return probe.url;
    case release::ProbeType::tcp:
      return probe.address;
  }
  return "";
}

Json manifest_json(const release::Manifest& manifest) {
  Json probes = Json::array();
  for (const release::Probe& probe : manifest.probes)
    probes.push_back({{"name", probe.name},
                      {"type", probe_type(probe.type)},
                      {"target", probe_target(probe)},
                      {"interval", base::format_duration(probe.interval)},
                      {"failures", probe.failures}});
  return {{"app", manifest.app},
          {"version", manifest.version.text()},
          {"created", base::format_rfc3339(manifest.created * 1'000'000)},
          {"source",
           {{"revision", manifest.source_revision}, {"repository", manifest.source_repository}}},
          {"builder", manifest.builder},
          {"strategy", manifest.strategy},
          {"user", manifest.user},
          {"hooks",
           {{"pre_upgrade", command_json(manifest.hooks.pre_upgrade)},
            {"post_switch", command_json(manifest.hooks.post_switch)},
            {"post_commit", command_json(manifest.hooks.post_commit)},
            {"post_rollback", command_json(manifest.hooks.post_rollback)}}},
          {"probes", probes},
          {"watch", base::format_duration(manifest.watch)},
          {"keep", manifest.keep},
          {"requires",
           {{"agent", manifest.needs.agent},
            {"arch", manifest.needs.arch},
            {"rollback_floor",
             manifest.needs.rollback_floor ? manifest.needs.rollback_floor->text() : ""}}},
          {"entries", manifest.entries.size()},
          {"content_bytes", manifest.entries.total_file_bytes()}};
}

// What the node changes of what the release signed.
Json node_json(const config::AppSettings& node) {
  Json changes = Json::object();
  if (node.user) changes["user"] = *node.user;
  if (node.keep) changes["keep"] = *node.keep;
  if (!node.environment.empty()) {
    Json names = Json::array();
    for (const auto& [name, value] : node.environment) names.push_back(name);
    changes["environment"] = names;  // names only: values may be the node's secrets
  }
  if (!node.environment_files.empty()) changes["environment_files"] = node.environment_files;
  return changes;
}

struct InspectOptions {
  std::string source;
  bool files = false;
};

void print_manifest(Session& session, const release::Manifest& manifest) {
  const auto row = [&session](std::string name, const std::string& value) {
    if (value.empty()) return;
    name.resize(12, ' ');
    session.print(name + base::printable(value));
  };
  row("release", manifest.app + " " + manifest.version.text());
  row("created", base::format_rfc3339(manifest.created * 1'000'000));
  row("source",
      manifest.source_revision +
          (manifest.source_repository.empty() ? "" : " of " + manifest.source_repository));
  row("builder", manifest.builder);
  row("strategy", manifest.strategy);
  row("contents", std::to_string(manifest.entries.size()) + " entries, " +
                      base::human_bytes(manifest.entries.total_file_bytes()));
  row("user", manifest.user);
  const auto hook = [&row](std::string_view name, const std::optional<release::Command>& command) {
    if (command)
      row("hook", std::string(name) + ": " + base::join(command->argv, " ") + "  (at most " +
                      base::format_duration(command->timeout) + ")");
  };
  hook("pre_upgrade", manifest.hooks.pre_upgrade);
  hook("post_switch", manifest.hooks.post_switch);
  hook("post_commit", manifest.hooks.post_commit);
  hook("post_rollback", manifest.hooks.post_rollback);
  for (const release::Probe& probe : manifest.probes)
    row("probe",
        probe.name + " (" + std::string(probe_type(probe.type)) + "): " + probe_target(probe));
  if (manifest.watch.count() > 0) row("watch", base::format_duration(manifest.watch));
  row("keep", std::to_string(manifest.keep) + " good releases");
  row("needs", manifest.needs.agent.empty() ? "" : "updagent " + manifest.needs.agent);
  row("needs", manifest.needs.arch);
  if (manifest.needs.rollback_floor)
    row("floor", "nothing below " + manifest.needs.rollback_floor->text() + " can run after it");
}

Json entries_json(const release::EntryTable& entries) {
  Json list = Json::array();
  for (std::size_t i = 0; i < entries.size() && i < kMaxListed; ++i) {
    const release::EntryView entry = entries.at(i);
    Json row = {
        {"path", entry.path}, {"type", release::entry_type_name(entry.type)}, {"size", entry.size}};
    if (entry.type == release::EntryType::file) row["sha256"] = entry.sha256.hex();
    if (!entry.link_target.empty()) row["target"] = entry.link_target;
    list.push_back(std::move(row));
  }
  return list;
}

Exit run_inspect(Session& session, const InspectOptions& options) {
  const auto input = ArtifactInput::open(session, options.source);
  if (!input) return session.fail(input.error());
  const auto text = (*input)->reader().read_envelope();
  if (!text) return session.fail(text.error());
  const auto envelope = trust::parse_envelope(*text);
  if (!envelope) return session.fail(envelope.error());
  const auto statement = trust::parse_statement(envelope->payload);
  if (!statement) return session.fail(statement.error());
  const auto manifest = (*input)->manifest(statement->manifest_digest);
  if (!manifest) return session.fail(manifest.error());
  const auto keys = trusted_keys(session, statement->app);
  const auto verified =
      keys ? trust::verify_envelope(*text, *keys) : base::Result<trust::Verified>(keys.error());
  Json document = manifest_json(*manifest);
  document["manifest_sha256"] = statement->manifest_digest.hex();
  Json signatures = Json::array();
  for (const trust::SignatureInfo& signature : envelope->signatures)
    signatures.push_back({{"key_id", signature.key_id}});
  document["signatures"] = signatures;
  document["trusted"] = verified.has_value();
  if (!verified) document["why_not"] = verified.error().line();
  const auto settings = session.settings(statement->app);
  if (settings) document["node"] = node_json(settings->app);
  if (options.files) document["files"] = entries_json(manifest->entries);
  session.document(document);
  print_manifest(session, *manifest);
  session.print("manifest    sha256 " + statement->manifest_digest.hex());
  for (const trust::SignatureInfo& signature : envelope->signatures)
    session.print("signature   " + trust::fingerprint(signature.key_id));
  session.print("trusted     " + (verified ? session.good("yes")
                                           : session.bad("no") + ": " + verified.error().line()));
  if (settings && !node_json(settings->app).empty())
    session.print("node        " + node_json(settings->app).dump());
  if (options.files)
    for (std::size_t i = 0; i < manifest->entries.size() && i < kMaxListed; ++i) {
      const release::EntryView entry = manifest->entries.at(i);
      session.print("  " + std::string(release::entry_type_name(entry.type)) + "  " +
                    std::string(entry.path) +
                    (entry.link_target.empty() ? "" : " -> " + std::string(entry.link_target)));
    }
  return Exit::done;
}

struct VerifyOptions {
  std::string source;
  std::string installed;
  std::string version;
};

Exit verify_artifact(Session& session, const std::string& source) {
  const auto check = [&]() -> base::Result<Json> {
    UPD_ASSIGN(const auto input, ArtifactInput::open(session, source));
    UPD_ASSIGN(const std::string text, input->reader().read_envelope());
    UPD_ASSIGN(const trust::Envelope envelope, trust::parse_envelope(text));
    const auto claimed = trust::parse_statement(envelope.payload);
    const std::string app = claimed && release::is_app_name(claimed->app) ? claimed->app : "";
    UPD_ASSIGN(const trust::TrustSet keys, trusted_keys(session, app));
    UPD_ASSIGN(const trust::Verified verified, trust::verify_envelope(text, keys));
    UPD_ASSIGN(const release::Manifest manifest,
               input->manifest(verified.statement.manifest_digest));
    if (manifest.app != verified.statement.app ||
        manifest.version.text() != verified.statement.version)
      return Error(Code::statement_mismatch, "statement and manifest name different releases")
          .expected(verified.statement.app + " " + verified.statement.version)
          .got(manifest.app + " " + manifest.version.text());
    NullSink sink;
    UPD_TRY(
        input->reader().read_entries(manifest.entries, sink, [](const release::ReadProgress&) {}));
    Json signers = Json::array();
    for (const trust::PublicKey& key : verified.signed_by)
      signers.push_back({{"name", key.name}, {"key_id", key.key_id}});
    return Json{{"app", manifest.app},
                {"version", manifest.version.text()},
                {"intact", true},
                {"entries", manifest.entries.size()},
                {"signed_by", signers},
                {"manifest_sha256", verified.statement.manifest_digest.hex()},
                {"file_sha256", input->reader().file_digest().hex()}};
  };
  const auto checked = check();
  if (!checked) return session.fail(checked.error());
  session.document(*checked);
  session.print(session.good("trusted and intact") + "  " + (*checked)["app"].get<std::string>() +
                " " + (*checked)["version"].get<std::string>() + ", " +
                std::to_string((*checked)["entries"].get<std::size_t>()) + " entries");
  for (const Json& signer : (*checked)["signed_by"])
    session.print("signed by " + signer["name"].get<std::string>() + "  " +
                  trust::fingerprint(signer["key_id"].get<std::string>()));
  return Exit::done;
}

Exit verify_installed(Session& session, const VerifyOptions& options) {
  const auto check = [&]() -> base::Result<Json> {
    UPD_ASSIGN(
        const store::AppStore store,
        store::AppStore::open(session.layout().app(options.installed), options.installed, false));
    UPD_ASSIGN(const store::Links links, store.links());
    const std::string version =
        options.version.empty() ? links.current.value_or("") : options.version;
    if (version.empty() || !store.has(version))
      return Error(Code::not_found, version.empty()
                                        ? "'" + options.installed + "' has no current release"
                                        : "release " + version + " is not kept here");
    Json problems = Json::array();
    const auto manifest = store.manifest(version);
    std::uint64_t entries = 0;
    if (!manifest) {
      problems.push_back(manifest.error().line());
    } else {
      UPD_ASSIGN(const store::TreeReport report,
                 store::verify_tree(store.path(version), *manifest, session.interrupt()));
      entries = report.entries;
      for (const std::string& problem : report.problems) problems.push_back(problem);
    }
    UPD_ASSIGN(const std::string envelope, store.envelope(version));
    UPD_ASSIGN(const trust::TrustSet keys, trusted_keys(session, options.installed));
    const auto verified = trust::verify_envelope(envelope, keys);
    const auto digest = store.manifest_digest(version);
    if (!verified) problems.push_back("envelope: " + verified.error().line());
    if (verified && (!digest || *digest != verified->statement.manifest_digest))
      problems.push_back(".updagent/manifest.json is not the one that was signed");
    return Json{{"app", options.installed},
                {"version", version},
                {"intact", problems.empty()},
                {"entries", entries},
                {"problems", problems}};
  };
  const auto checked = check();
  if (!checked) return session.fail(checked.error());
  const Json& problems = (*checked)["problems"];
  const std::string what = options.installed + " " + (*checked)["version"].get<std::string>();
  if (!problems.empty()) {
    for (const Json& problem : problems)
      session.print("  " + base::printable(problem.get<std::string>()));
    return session.fail(
        Error(Code::damaged, "the installed tree of " + what + " is not what was signed")
            .expected("no problem")
            .got(std::to_string(problems.size()) + ", the first: " + problems[0].get<std::string>())
            .hint("updagent rollback " + options.installed + ", or apply a good release"),
        *checked);
  }
  session.document(*checked);
  session.print(session.good("intact") + "  " + what + ", " +
                std::to_string((*checked)["entries"].get<std::uint64_t>()) + " entries");
  return Exit::done;
}

}  // namespace

Run setup_inspect(CLI::App& command) {
  const auto options = std::make_shared<InspectOptions>();
  command.add_option("SOURCE", options->source, "artifact: a file, an http(s) or file URL, or -")
      ->required();
  command.add_flag("--files", options->files, "list every entry");
  return [options](Session& session) { return run_inspect(session, *options); };
}

Run setup_verify(CLI::App& command) {
  const auto options = std::make_shared<VerifyOptions>();
  auto* source = command.add_option("SOURCE", options->source,
                                    "artifact: a file, an http(s) or file URL, or -");
  auto* installed =
      command.add_option("--installed", options->installed, "check the installed tree of this app")
          ->type_name("APP");
  command.add_option("--version", options->version, "of that app (default: the current one)")
      ->type_name("VERSION")
      ->needs(installed);
  source->excludes(installed);
  return [options](Session& session) {
    if (!options->installed.empty()) return verify_installed(session, *options);
    if (options->source.empty())
      return session.fail(
          Error(Code::usage, "what shall be verified?").expected("FILE, URL, or --installed APP"));
    return verify_artifact(session, options->source);
  };
}

}  // namespace updagent::cli
