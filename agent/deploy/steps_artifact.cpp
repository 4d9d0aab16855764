// fetch, verify, stage: from a source to a complete tree in releases/. Nothing that runs is
// touched.
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>

#include "agent/base/failpoints.hpp"
#include "agent/base/files.hpp"
#include "agent/base/text.hpp"
#include "agent/deploy/driver_lock.hpp"
#include "agent/deploy/engine.hpp"
#include "agent/deploy/recovery.hpp"

namespace updagent::deploy {

using base::Code;
using base::Error;

namespace {

std::string machine_type() {
  utsname about{};
  return ::uname(&about) == 0 ? about.machine : "";
}

std::string waiting_note(const fetch::Progress& progress) {
  if (progress.waiting == fetch::Waiting::none) return "";
  return std::string(progress.waiting == fetch::Waiting::server_busy ? "server busy"
                                                                     : "link lost") +
         " (" + progress.last_problem + ")";
}

constexpr std::size_t kPipeBytes = 256 * 1024;

bool can_rewind(int fd) {
  struct stat about{};
  return ::fstat(fd, &about) == 0 && S_ISREG(about.st_mode);
}

}  // namespace

base::Status Engine::fetch() {
  const std::string& source = plan_.request.source;
  if (!fetch::is_url(source)) {
    stage_summary_ = source == "-" ? "standard input" : source;
    return plan_.request.expect_sha256 && !can_rewind(plan_.artifact.get()) ? keep_pipe()
                                                                            : base::ok();
  }
  const config::FetchSettings& node = plan_.settings.fetch;
  fetch::Request request;
  request.url = source;
  request.download_directory = context_.layout.downloads();
  request.limits.connect_timeout = node.connect_timeout;
  request.limits.low_speed_bytes = node.low_speed_bytes;
  request.limits.low_speed_time = node.low_speed_time;
  request.limits.give_up_after = node.give_up_after;
  request.limits.max_bytes = node.max_artifact_bytes;
  request.limits.bytes_per_second = node.bytes_per_second;
  request.credentials = {node.ca_file, node.client_certificate, node.client_key, node.netrc,
                         node.netrc_file};
  request.interrupt = context_.interrupt;
  // an outage lasts until bytes come: attempts that bring none are part of it
  std::optional<std::uint64_t> outage_at;
  request.on_progress = [this, &outage_at](const fetch::Progress& progress) {
    const bool waiting = progress.waiting != fetch::Waiting::none;
    if (waiting && outage_at != progress.bytes) {
      recorder_.event("fetch.waiting", "started",
                      {{"problem", progress.last_problem}, {"bytes", progress.bytes}});
      outage_at = progress.bytes;
    }
    observer().progress(
        {"fetching", progress.bytes, progress.total, waiting_note(progress), progress.retry_in});
  };
  // The envelope stands first: who signed it and which release it is are known before the rest is
  // downloaded, so a refusal or "unchanged" costs a few kilobytes.
  request.head_bytes = release::kHeadBytes;
  request.on_head = [this](std::string_view head) -> base::Result<bool> {
    UPD_ASSIGN(const std::optional<std::string> envelope, release::envelope_from_head(head));
    if (!envelope) return true;
    UPD_ASSIGN(const bool wanted, admit_envelope(*envelope));
    return wanted || plan_.request.expect_sha256.has_value();
  };
  UPD_ASSIGN(fetch::Fetched fetched, fetch::fetch(request));
  recorder_.row().bytes_downloaded = static_cast<std::int64_t>(fetched.downloaded);
  add_stage_detail("bytes", fetched.bytes);
  add_stage_detail("downloaded", fetched.downloaded);
  if (fetched.resumed_from > 0) {
    add_stage_detail("resumed_from", fetched.resumed_from);
    recorder_.event("fetch.resumed", "success", {{"from", fetched.resumed_from}});
  }
  stage_summary_ = base::human_bytes(fetched.downloaded) + " downloaded";
  if (fetched.resumed_from > 0)
    stage_summary_ += ", resumed at " + base::human_bytes(fetched.resumed_from);
  plan_.artifact = std::move(fetched.file);
  plan_.end_is_certain = fetched.end_is_certain;
  if (fetched.stopped_early) stage_summary_ += ", the rest is not needed";
  return base::ok();
}

// A pipe can be read once, and a digest that was asked for is compared before anything of it is
// used: so all of it goes to a file without a name first.
base::Status Engine::keep_pipe() {
  const std::string folder = context_.layout.downloads();
  UPD_TRY(base::make_directories(folder, 0700));
  UPD_ASSIGN(base::UniqueFd kept, base::open_path(folder, O_TMPFILE | O_RDWR, 0600));
  release::FdSource pipe(plan_.artifact.get(), "standard input");
  std::vector<std::uint8_t> buffer(kPipeBytes);
  std::uint64_t total = 0;
  for (;;) {
    pollfd ready[] = {{plan_.artifact.get(), POLLIN, 0},
                      {context_.interrupt != nullptr ? context_.interrupt->fd() : -1, POLLIN, 0}};
    if (::poll(ready, 2, -1) < 0 && errno != EINTR)
      return base::system_error(errno, "cannot wait for standard input");
    if (ready[1].revents != 0)
      return Error(Code::interrupted, "stopped while standard input was read");
    UPD_ASSIGN(const std::size_t count, pipe.read(buffer));
    if (count == 0) break;
    total += count;
    if (total > plan_.settings.fetch.max_artifact_bytes)
      return Error(Code::too_large, "standard input is larger than an artifact may be")
          .expected("at most " + base::human_bytes(plan_.settings.fetch.max_artifact_bytes));
    UPD_TRY(base::write_all(kept.get(), std::span<const std::uint8_t>(buffer.data(), count),
                            "the copy of standard input"));
  }
  if (::lseek(kept.get(), 0, SEEK_SET) != 0)
    return base::system_error(errno, "cannot rewind the copy of standard input");
  plan_.artifact = std::move(kept);
  return base::ok();
}

// Everything that can be decided from the signed statement alone. True: go on and get the rest.
base::Result<bool> Engine::admit_envelope(std::string_view envelope) {
  if (plan_.admitted && plan_.envelope == envelope) return plan_.admission == Admission::deploy;
  UPD_ASSIGN(const trust::Envelope read, trust::parse_envelope(envelope));
  const auto claimed = trust::parse_statement(read.payload);
  // The claimed app only chooses which keys count; a statement that can't be read gets its own
  // refusal after the signatures were looked at.
  const std::string claimed_app =
      claimed && release::is_app_name(claimed->app) ? claimed->app : std::string();
  UPD_TRY(reload_settings(claimed_app));
  UPD_ASSIGN(
      const trust::TrustSet keys,
      context_.trust_override.empty()
          ? trust::load_trust(context_.layout.trust(), claimed_app, plan_.settings.app.threshold)
          : trust::load_trust_from(context_.trust_override, plan_.settings.app.threshold));
  UPD_ASSIGN(trust::Verified verified, trust::verify_envelope(envelope, keys));
  if (!release::is_app_name(verified.statement.app))
    return Error(Code::statement_invalid, "the signed statement names no usable app")
        .expected("lower-case letters, digits, '.', '_', '-'")
        .got("'" + verified.statement.app + "'");
  UPD_TRY(release::parse_semver(verified.statement.version));
  if (plan_.admitted && verified.statement.app != plan_.statement.app)
    return Error(Code::fetch_failed, "the file was replaced on the server by one of another app")
        .expected("'" + plan_.statement.app + "'")
        .got("'" + verified.statement.app + "'");
  plan_.statement = std::move(verified.statement);
  plan_.signed_by = std::move(verified.signed_by);
  plan_.envelope = envelope;
  UPD_TRY(refuse_other_app());
  if (!plan_.admitted) {
    UPD_TRY(take_lock_and_open());
  } else {  // another release stands there by now: the download began again, and so does this
    UPD_TRY(name_goal());
    recorder_.event("fetch.replaced", "success", {{"version", plan_.statement.version}});
  }
  UPD_TRY(decide());
  plan_.admitted = true;
  return plan_.admission == Admission::deploy;
}

// Before the lock: a release of another app has no business with this one's.
base::Status Engine::refuse_other_app() {
  const auto admitted = admit(plan_.statement, KnownApp(), plan_.request.permissions);
  return admitted ? base::ok() : base::Status(admitted.error());
}

base::Status Engine::name_goal() {
  UPD_TRY(load_known());
  journal::DeploymentRow& row = recorder_.row();
  row.app = plan_.statement.app;
  row.to_version = plan_.statement.version;
  row.to_digest = plan_.statement.manifest_digest.hex();
  row.from_version = plan_.known.links.current.value_or("");
  row.committed_before = plan_.known.links.committed.value_or("");
  row.allows_downgrade = plan_.request.permissions.allow_downgrade;
  return base::ok();
}

// What is here already is hashed now, while it can still be fetched again.
base::Status Engine::decide() {
  UPD_ASSIGN(plan_.admission, admit(plan_.statement, plan_.known, plan_.request.permissions));
  if (plan_.admission == Admission::deploy) return base::ok();
  const bool only_asked = plan_.admission == Admission::unchanged;
  if (only_asked && !plan_.request.permissions.retry) return base::ok();
  UPD_ASSIGN(const bool intact, take_kept_tree());
  if (!intact) plan_.admission = Admission::deploy;
  return base::ok();
}

base::Status Engine::take_lock_and_open() {
  const std::string& app = plan_.statement.app;
  journal::DeploymentRow& row = recorder_.row();
  UPD_TRY(base::make_directories(context_.layout.runtime, 0755));
  UPD_ASSIGN(plan_.lock,
             take_driver_lock(context_.layout, app, plan_.request.wait, context_.interrupt));
  plan_.locked = true;
  base::failpoint::hit("deploy.after_lock");
  // A deployment whose driver died is ended first.
  if (journal_ != nullptr) {
    UPD_ASSIGN(const auto ended, recover_locked(context_, journal_, app));
    if (ended && ended->outcome == Outcome::rollback_failed && ended->error) return *ended->error;
  }
  UPD_TRY(name_goal());
  if (!plan_.request.dry_run) {
    UPD_TRY(recorder_.open());
    base::failpoint::hit("deploy.after_open");
    std::vector<std::string> command = context_.guardian_command;
    if (!command.empty()) command.push_back(app);
    UPD_ASSIGN(plan_.guardian, Guardian::start(command));
    base::failpoint::hit("deploy.after_guardian");
  } else {
    observer().started(row.trace_id, app, row.from_version, row.to_version);
  }
  return base::ok();
}

base::Status Engine::load_known() {
  const std::string& app = plan_.statement.app;
  plan_.known = KnownApp();
  auto store = store::AppStore::open(context_.layout.app(app), app, false);
  if (store) {
    plan_.store.emplace(std::move(*store));
    UPD_ASSIGN(plan_.known.links, plan_.store->links());
    if (plan_.store->has(plan_.statement.version)) {
      auto digest = plan_.store->manifest_digest(plan_.statement.version);
      // an unreadable manifest is a damaged tree: it is staged anew
      if (digest) plan_.known.installed_digest = *digest;
    }
  } else if (store.error().code() != Code::not_found) {
    return std::move(store).error();
  }
  if (journal_ == nullptr) return base::ok();
  UPD_ASSIGN(plan_.known.releases, journal_->releases(app));
  UPD_ASSIGN(plan_.known.app, journal_->app(app));
  return base::ok();
}

base::Status Engine::verify() {
  if (plan_.artifact && plan_.request.expect_sha256) {
    UPD_ASSIGN(const base::Digest whole,
               base::sha256_of_fd(plan_.artifact.get(), plan_.request.source));
    if (whole != *plan_.request.expect_sha256)
      return Error(Code::file_digest, "refusing an artifact that is not the one that was asked for")
          .expected("sha256 " + plan_.request.expect_sha256->hex())
          .got(whole.hex());
    if (::lseek(plan_.artifact.get(), 0, SEEK_SET) != 0)
      return base::system_error(errno, "cannot rewind the artifact");
  }
  if (plan_.artifact) {
    plan_.source =
        std::make_unique<release::FdSource>(plan_.artifact.get(), recorder_.row().source);
    plan_.reader = std::make_unique<release::ArtifactReader>(*plan_.source, context_.interrupt);
    UPD_ASSIGN(const std::string envelope, plan_.reader->read_envelope());
    UPD_TRY(admit_envelope(envelope));
  }
  journal::Json signers = journal::Json::array();
  for (const trust::PublicKey& key : plan_.signed_by)
    signers.push_back({{"name", key.name}, {"key_id", key.key_id}});
  add_stage_detail("signed_by", signers);
  add_stage_detail("manifest", plan_.statement.manifest_digest.hex());
  if (plan_.admission == Admission::unchanged) {
    plan_.settled = true;
    plan_.outcome = Outcome::unchanged;
    plan_.reason = "already_current";
    return keep_new_signatures();
  }
  if (plan_.admission == Admission::deploy) {
    plan_.made_app_folder = !base::exists(context_.layout.app(plan_.statement.app));
    UPD_ASSIGN(auto store, store::AppStore::open(context_.layout.app(plan_.statement.app),
                                                 plan_.statement.app, true));
    plan_.store.emplace(std::move(store));
    store::StagingOptions options;
    for (const auto& version : {plan_.known.links.current, plan_.known.links.committed})
      if (version && (options.reuse_from.empty() || options.reuse_from.back() != *version))
        options.reuse_from.push_back(*version);
    options.throw_away = plan_.request.dry_run;
    options.min_free_bytes = plan_.settings.app.min_free_bytes;
    UPD_ASSIGN(plan_.staging, store::Staging::begin(*plan_.store, plan_.statement.manifest_digest,
                                                    plan_.envelope, options));
    UPD_TRY(plan_.reader->read_manifest(
        plan_.statement.manifest_digest,
        [this](std::string_view piece) { return plan_.staging->manifest_bytes(piece); }));
    UPD_ASSIGN(plan_.manifest, plan_.staging->parse_manifest());
  }
  UPD_TRY(check_manifest(*plan_.manifest, plan_.statement, UPDAGENT_VERSION, machine_type()));
  UPD_ASSIGN(plan_.user, user_of(*plan_.manifest));
  UPD_TRY(check_user());
  UPD_TRY(resolve_candidate());
  UPD_TRY(check_questions());
  UPD_TRY(check_floor_of_current());
  const release::EntryTable& entries = plan_.manifest->entries;
  add_stage_detail("entries", entries.size());
  add_stage_detail("content_bytes", entries.total_file_bytes());
  stage_summary_ = "signed by " + (plan_.signed_by.empty() ? "?" : plan_.signed_by.front().name);
  for (std::size_t i = 1; i < plan_.signed_by.size(); ++i)
    stage_summary_ += ", " + plan_.signed_by[i].name;
  if (plan_.admission == Admission::reuse) return base::ok();
  if (entries.total_file_bytes() > plan_.settings.app.max_release_bytes)
    return Error(Code::too_large, "the release is larger than this node accepts")
        .expected("at most " + base::human_bytes(plan_.settings.app.max_release_bytes))
        .got(base::human_bytes(entries.total_file_bytes()))
        .hint("raise [limits] max_release_bytes");
  return plan_.staging->check_space(*plan_.manifest);
}

// Before anything is switched: the user is there, and is no other name of root.
base::Status Engine::check_user() {
  if (plan_.user->empty()) return base::ok();
  UPD_ASSIGN(const base::Identity identity, base::identity_of_user(*plan_.user));
  if (identity.uid != 0 || plan_.settings.app.allow_root || plan_.settings.app.user)
    return base::ok();
  return Error(Code::privilege, "the release wants its commands to run as '" + *plan_.user + "'")
      .expected("an unprivileged user")
      .got("another name of root (uid 0)")
      .hint("allow it with [allow] root = true in " + context_.layout.etc + "/apps.d/" +
            plan_.statement.app + ".toml");
}

// --allow-downgrade goes below what was committed, not below what the data can bear.
base::Status Engine::check_floor_of_current() {
  const auto& current = plan_.known.links.current;
  if (!current || *current == plan_.statement.version || !plan_.store) return base::ok();
  const auto manifest = plan_.store->description(*current);
  return manifest ? check_floor(*manifest, plan_.statement.version) : base::ok();
}

// The very manifest is here already: its tree is checked instead of being fetched again. False: it
// is damaged, and the artifact replaces it.
base::Result<bool> Engine::take_kept_tree() {
  const std::string& version = plan_.statement.version;
  auto manifest = plan_.store->manifest(version);
  std::string problem = manifest ? "" : manifest.error().line();
  if (manifest) {
    UPD_ASSIGN(const store::TreeReport report,
               store::verify_tree(plan_.store->path(version), *manifest, context_.interrupt));
    if (!report.problems.empty()) problem = report.problems.front();
  }
  if (!problem.empty()) {
    observer().warning("the kept tree of " + version + " is damaged (" + problem +
                       "): it is installed anew");
    return false;
  }
  if (plan_.admission == Admission::unchanged) return true;
  // whoever put it here may have been killed between the rename and its fsync
  UPD_TRY(base::fsync_directory(plan_.store->directory() + "/releases"));
  plan_.manifest = std::move(*manifest);
  plan_.staged = true;
  return true;
}

base::Status Engine::keep_new_signatures() {
  stage_summary_ = plan_.statement.version + " is current already";
  if (plan_.request.dry_run) return base::ok();
  const std::string& version = plan_.statement.version;
  UPD_ASSIGN(const std::string kept, plan_.store->envelope(version));
  if (kept == plan_.envelope) return base::ok();
  UPD_ASSIGN(const trust::TrustSet keys,
             context_.trust_override.empty()
                 ? trust::load_trust(context_.layout.trust(), plan_.statement.app, 1)
                 : trust::load_trust_from(context_.trust_override, 1));
  UPD_ASSIGN(const std::string merged, trust::merge_signatures(kept, plan_.envelope, keys));
  if (merged == kept) return base::ok();
  stage_summary_ += ", new signatures kept";
  return plan_.store->replace_envelope(version, merged);
}

base::Status Engine::stage() {
  const std::string& version = plan_.statement.version;
  if (plan_.staged) {
    stage_summary_ = "the kept tree of " + version + " is intact, nothing to unpack";
    const std::uint64_t bytes = plan_.manifest->entries.total_file_bytes();
    recorder_.row().bytes_reused = static_cast<std::int64_t>(bytes);
    add_stage_detail("reused_bytes", bytes);
    if (plan_.request.dry_run) {
      plan_.settled = true;
      plan_.outcome = Outcome::unchanged;
      plan_.reason = "dry_run";
    }
    return base::ok();
  }
  const std::uint64_t total = plan_.manifest->entries.total_file_bytes();
  UPD_TRY(plan_.reader->read_entries(
      plan_.manifest->entries, *plan_.staging, [&](const release::ReadProgress& progress) {
        observer().progress({"unpacking", progress.bytes, total, "", base::Milliseconds(0)});
      }));
  UPD_TRY(plan_.staging->finish(plan_.manifest->entries));
  base::failpoint::hit("deploy.after_unpack");
  const store::StagingReport& report = plan_.staging->report();
  recorder_.row().bytes_reused = static_cast<std::int64_t>(report.reused_bytes);
  add_stage_detail("written_bytes", report.written_bytes);
  add_stage_detail("reused_bytes", report.reused_bytes);
  add_stage_detail("linked_files", report.linked_files);
  if (!report.damaged_kept.empty()) {
    add_stage_detail("damaged_kept", report.damaged_kept);
    observer().warning(
        "damage in a kept release, its file was not taken: " + report.damaged_kept.front() +
        " (updagent verify --installed " + plan_.statement.app + " tells more)");
  }
  stage_summary_ = std::to_string(plan_.manifest->entries.size()) + " entries, " +
                   base::human_bytes(report.written_bytes) + " written, " +
                   base::human_bytes(report.reused_bytes) + " reused";
  if (plan_.request.dry_run) {
    plan_.settled = true;
    plan_.outcome = Outcome::unchanged;
    plan_.reason = "dry_run";
    plan_.staging.reset();
    remove_unused_app_folder();
    return base::ok();
  }
  base::failpoint::hit("deploy.before_publish");
  if (base::Status published = plan_.staging->publish(version); !published) {
    // renamed, perhaps, without being durable: nothing that a later run may take for installed
    if (plan_.store->has(version)) static_cast<void>(plan_.store->remove(version));
    return published;
  }
  base::failpoint::hit("deploy.after_publish");
  plan_.staged = true;
  plan_.staging.reset();
  journal::ReleaseRow release;
  release.app = plan_.statement.app;
  release.version = version;
  release.digest = plan_.statement.manifest_digest.hex();
  release.state = journal::ReleaseState::staged;
  release.installed_us = base::wall_now_us();
  release.trace_id = recorder_.row().trace_id;
  UPD_ASSIGN(release.size_bytes, base::disk_usage(plan_.store->path(version)));
  return recorder_.flush(&release);
}

}  // namespace updagent::deploy
