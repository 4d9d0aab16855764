// inspect and verify: looking at a release or an installed tree without changing anything.
#include <algorithm>
#include <memory>

#include "agent/base/files.hpp"
#include "agent/base/text.hpp"
#include "agent/deploy/policy.hpp"
#include "agent/deploy/supervise.hpp"
#include "agent/store/store.hpp"
#include "agent/trust/trust.hpp"
#include "cli/artifact_input.hpp"
#include "cli/journal_access.hpp"
#include "cli/rollout_view.hpp"
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

// What both inspect and verify ask of a signed statement and the manifest that it names.
base::Status same_release(const trust::Statement& statement, const release::Manifest& manifest) {
  const std::string version = manifest.version.text();
  if (manifest.app == statement.app && version == statement.version) return base::ok();
  return Error(Code::statement_mismatch, "statement and manifest name different releases")
      .expected(statement.app + " " + statement.version)
      .got(manifest.app + " " + version);
}

base::Status is_trusted(Session& session, std::string_view envelope,
                        const trust::Statement& claimed, const release::Manifest& manifest) {
  UPD_ASSIGN(const trust::TrustSet keys, trusted_keys(session, claimed.app));
  UPD_ASSIGN(const trust::Verified verified, trust::verify_envelope(envelope, keys));
  return same_release(verified.statement, manifest);
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
  Json out = {
      {"app", manifest.app},
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
      {"watch", base::format_duration(manifest.rollout.watch)},
      {"keep", manifest.keep},
      {"requires",
       {{"agent", manifest.needs.agent},
        {"arch", manifest.needs.arch},
        {"rollback_floor",
         manifest.needs.rollback_floor ? manifest.needs.rollback_floor->text() : ""}}},
      {"entries", manifest.entries.size()},
      {"content_bytes", manifest.entries.total_file_bytes()}};
  add_rollout_json(manifest, out);
  return out;
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

// What would really run here, next to what was signed; "" of either side is a value that is not
// shown.
Json service_json(Session& session, const release::Manifest& manifest,
                  const config::AppSettings& node) {
  const config::Layout& layout = session.layout();
  const auto user = deploy::user_for(manifest, node, ::geteuid() == 0, base::own_identity().user,
                                     layout.etc + "/apps.d/" + manifest.app + ".toml");
  if (!user) return {{"refused", user.error().line()}};
  const auto found = deploy::resolve(manifest, layout, node, *user);
  if (!found) return {{"refused", found.error().line()}, {"hint", found.error().hint()}};
  Json changes = Json::array();
  for (const config::ServiceChange& change : found->changes)
    changes.push_back(
        {{"key", change.key}, {"by_release", change.by_release}, {"here", change.here}});
  Json listeners = Json::array();
  for (const release::Listener& listener : found->run.service.listeners)
    listeners.push_back({{"name", listener.name}, {"address", listener.address}});
  return {{"command", found->run.service.command},
          {"user", found->run.user},
          {"listeners", std::move(listeners)},
          {"changes", std::move(changes)}};
}

void print_service(Session& session, const Json& service) {
  if (service.contains("refused")) {
    session.print("service     " + session.bad("refused here") + ": " +
                  base::printable(service["refused"].get<std::string>()));
    return;
  }
  session.print("service     " + base::printable(service["command"].dump()));
  for (const Json& listener : service["listeners"])
    session.print("listener    " + base::printable(listener["name"].get<std::string>()) + "  " +
                  base::printable(listener["address"].get<std::string>()));
  for (const Json& change : service["changes"])
    session.print("changed     " + base::printable(change["key"].get<std::string>()) + ": " +
                  base::printable(change["by_release"].get<std::string>()) + " -> " +
                  base::printable(change["here"].get<std::string>()) + " on this node");
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
  print_rollout(manifest, row);
  if (manifest.rollout.watch.count() > 0)
    row("watch", base::format_duration(manifest.rollout.watch));
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

void print_entries(Session& session, const release::EntryTable& entries) {
  for (std::size_t i = 0; i < entries.size() && i < kMaxListed && !session.answer_failed(); ++i) {
    const release::EntryView entry = entries.at(i);
    std::string line(release::entry_type_name(entry.type));
    line += "  " + base::printable(entry.path);
    if (!entry.link_target.empty()) line += " -> " + base::printable(entry.link_target);
    session.print("  " + line);
  }
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
  const base::Status trusted = is_trusted(session, *text, *statement, *manifest);
  Json document = manifest_json(*manifest);
  document["manifest_sha256"] = statement->manifest_digest.hex();
  Json signatures = Json::array();
  for (const trust::SignatureInfo& signature : envelope->signatures)
    signatures.push_back({{"key_id", signature.key_id}});
  document["signatures"] = signatures;
  document["trusted"] = trusted.has_value();
  if (!trusted) document["why_not"] = trusted.error().line();
  const auto settings = session.settings(statement->app);
  if (settings) document["node"] = node_json(settings->app);
  Json service;
  if (settings && manifest->service) service = service_json(session, *manifest, settings->app);
  if (!service.is_null()) document["service"] = service;
  if (options.files) document["files"] = entries_json(manifest->entries);
  session.document(document);
  print_manifest(session, *manifest);
  if (!service.is_null()) print_service(session, service);
  session.print("manifest    sha256 " + statement->manifest_digest.hex());
  for (const trust::SignatureInfo& signature : envelope->signatures)
    session.print("signature   " + base::printable(trust::fingerprint(signature.key_id)));
  session.print("trusted     " + (trusted ? session.good("yes")
                                          : session.bad("no") + ": " + trusted.error().line()));
  if (settings && !node_json(settings->app).empty())
    session.print("node        " + node_json(settings->app).dump());
  if (options.files) print_entries(session, manifest->entries);
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
    UPD_TRY(same_release(verified.statement, manifest));
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

// Two questions about an installed tree: is it what was signed, and are those who signed it trusted
// today?
struct Installed {
  std::string version;
  std::uint64_t entries = 0;
  std::vector<std::string> problems;  // of the first question
  base::Status trusted = base::ok();
};

// Not so much as a signature by someone else: nobody could have signed this.
bool is_damage(Code code) {
  return code != Code::signature_unknown_key && code != Code::signature_threshold &&
         code != Code::no_trusted_keys;
}

// What the log says was installed; no log, no answer.
bool was_installed(Session& session, const std::string& app, const std::string& version,
                   const base::Digest& digest) {
  if (!base::exists(session.layout().database())) return true;
  auto journal = open_to_read(session);
  if (!journal) return true;
  const auto rows = journal->releases(app);
  if (!rows) return true;
  const auto row = std::find_if(rows->begin(), rows->end(),
                                [&](const auto& one) { return one.version == version; });
  return row == rows->end() || row->digest.empty() || row->digest == digest.hex();
}

base::Status look_at_signatures(Session& session, const store::AppStore& store, Installed& found) {
  UPD_ASSIGN(const trust::TrustSet keys, trusted_keys(session, store.name()));
  const auto envelope = store.envelope(found.version);
  const auto read =
      envelope ? trust::parse_envelope(*envelope) : base::Result<trust::Envelope>(envelope.error());
  const auto statement =
      read ? trust::parse_statement(read->payload) : base::Result<trust::Statement>(read.error());
  if (!statement) {
    found.problems.push_back("envelope: " + statement.error().line());
    return base::ok();
  }
  const auto digest = store.manifest_digest(found.version);
  if (!digest || *digest != statement->manifest_digest)
    found.problems.push_back(".updagent/manifest.json is not the one that was signed");
  else if (!was_installed(session, store.name(), found.version, *digest))
    found.problems.push_back(".updagent/manifest.json is not the one that was installed");
  const auto verified = trust::verify_envelope(*envelope, keys);
  if (!verified && is_damage(verified.error().code()))
    found.problems.push_back("envelope: " + verified.error().line());
  if (!verified) found.trusted = verified.error();
  return base::ok();
}

base::Result<Installed> look_at_installed(Session& session, const VerifyOptions& options) {
  UPD_ASSIGN(
      const store::AppStore store,
      store::AppStore::open(session.layout().app(options.installed), options.installed, false));
  UPD_ASSIGN(const store::Links links, store.links());
  Installed found;
  found.version = options.version.empty() ? links.current.value_or("") : options.version;
  if (found.version.empty() || !store.has(found.version))
    return Error(Code::not_found, found.version.empty()
                                      ? "'" + options.installed + "' has no current release"
                                      : "release " + found.version + " is not kept here");
  const auto manifest = store.manifest(found.version);
  if (!manifest) {
    found.problems.push_back(manifest.error().line());
  } else {
    UPD_ASSIGN(store::TreeReport report,
               store::verify_tree(store.path(found.version), *manifest, session.interrupt()));
    found.entries = report.entries;
    found.problems.insert(found.problems.end(), report.problems.begin(), report.problems.end());
  }
  UPD_TRY(look_at_signatures(session, store, found));
  return found;
}

Exit verify_installed(Session& session, const VerifyOptions& options) {
  const auto checked = look_at_installed(session, options);
  if (!checked) return session.fail(checked.error());
  const Installed& found = *checked;
  const std::string what = options.installed + " " + found.version;
  Json document = {{"app", options.installed},         {"version", found.version},
                   {"intact", found.problems.empty()}, {"trusted", found.trusted.has_value()},
                   {"entries", found.entries},         {"problems", found.problems}};
  for (const std::string& problem : found.problems) session.print("  " + base::printable(problem));
  if (!found.problems.empty())
    return session.fail(
        Error(Code::damaged, "the installed tree of " + what + " is not what was signed")
            .expected("no problem")
            .got(std::to_string(found.problems.size()) + ", the first: " + found.problems.front())
            .hint("updagent rollback " + options.installed + ", or apply a good release"),
        document);
  if (!found.trusted) {
    session.print(session.good("intact") + "  " + what +
                  ", but its signer is not trusted any more");
    return session.fail(found.trusted.error(), document);
  }
  session.document(document);
  session.print(session.good("intact") + "  " + what + ", " + std::to_string(found.entries) +
                " entries");
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
