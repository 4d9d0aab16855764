#include "agent/deploy/deployment.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "agent/base/failpoints.hpp"
#include "agent/base/files.hpp"
#include "agent/base/text.hpp"
#include "agent/deploy/driver_lock.hpp"
#include "agent/deploy/engine.hpp"
#include "agent/deploy/node.hpp"
#include "agent/deploy/recovery.hpp"

namespace updagent::deploy {

using base::Code;
using base::Error;

namespace {

journal::DeploymentRow new_row(const Context& context, std::string kind, std::string source) {
  journal::DeploymentRow row;
  row.trace_id = journal::new_trace_id();
  row.root_span_id = journal::new_span_id();
  row.kind = std::move(kind);
  row.source = std::move(source);
  row.actor = context.actor;
  row.started_us = base::wall_now_us();
  row.driver_pid = ::getpid();
  row.boot_id = base::boot_id();
  return row;
}

}  // namespace

journal::Paths Context::journal_paths() const {
  return {layout.database(), layout.audit_head(), layout.spool(), layout.reserve()};
}

namespace {

bool is_regular(int fd) {
  struct stat about{};
  return ::fstat(fd, &about) == 0 && S_ISREG(about.st_mode);
}

base::Result<base::UniqueFd> open_source(const std::string& source) {
  if (source == "-") {
    base::UniqueFd input(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3));
    if (!input) return base::system_error(errno, "cannot read standard input");
    return input;
  }
  auto opened = base::open_path(source, O_RDONLY | O_NOCTTY | O_NONBLOCK);
  if (opened && is_regular(opened->get())) return opened;
  return Error(Code::usage,
               opened ? "'" + source + "' is not a regular file" : opened.error().message())
      .hint("SOURCE is a file, an http(s) or file URL, or - for standard input");
}

}  // namespace

base::Result<DeployResult> apply(const Context& context, const ApplyRequest& request) {
  UPD_TRY(prepare_root(context.layout));
  Plan plan;
  UPD_ASSIGN(plan.settings, config::load(context.layout, context.config_file, ""));
  plan.node_name = plan.settings.node_name;
  plan.request = request;
  // a file that isn't there is a slip of the fingers, not a deployment
  if (!fetch::is_url(request.source)) {
    UPD_ASSIGN(plan.artifact, open_source(request.source));
  }
  UPD_ASSIGN(journal::Journal journal, open_journal(context, plan.settings));
  journal::DeploymentRow row =
      new_row(context, "apply",
              request.source == "-"           ? "standard input"
              : fetch::is_url(request.source) ? fetch::redacted_url(request.source)
                                              : request.source);
  row.app = request.permissions.expected_app;
  Engine engine(context, &journal, std::move(plan), std::move(row));
  return engine.run(State::fetch);
}

namespace {

std::optional<std::string> newest_below(const std::vector<std::string>& versions,
                                        const std::optional<std::string>& current) {
  const auto mark = release::parse_semver(current.value_or(""));
  std::optional<std::string> best;
  std::optional<release::SemVer> best_parsed;
  for (const std::string& version : versions) {
    const auto parsed = release::parse_semver(version);
    if (!mark || !parsed || release::precedence(*parsed, *mark) >= 0) continue;
    if (best_parsed && release::precedence(*parsed, *best_parsed) <= 0) continue;
    best = version;
    best_parsed = *parsed;
  }
  return best;
}

base::Result<std::string> rollback_target(const RollbackRequest& request,
                                          const store::AppStore& store, const store::Links& links,
                                          const std::vector<journal::ReleaseRow>& releases,
                                          const std::optional<journal::AppRow>& app,
                                          Observer& observer) {
  UPD_ASSIGN(const std::vector<std::string> versions, store.versions());
  if (!request.to) {
    // an uncommitted current (after an exit 8) goes back to what was committed
    if (links.committed && links.current != links.committed) return *links.committed;
    const auto previous = previous_release(releases, links.current.value_or(""), app);
    if (previous && store.has(*previous)) return *previous;
    // Without rows nobody can say which were good: the newest tree below, which is re-hashed and
    // probed like any other.
    if (const auto below = releases.empty() ? newest_below(versions, links.current)
                                            : std::optional<std::string>()) {
      observer.warning("the database can't say which releases were good: taking " + *below +
                       ", the newest that is kept below the current one");
      return *below;
    }
    return Error(Code::not_found, "no good release of '" + request.app + "' is kept before " +
                                      links.current.value_or("the current one"))
        .hint("updagent releases " + request.app + " lists what is here; --to VERSION chooses one");
  }
  if (!store.has(*request.to))
    return Error(Code::not_found,
                 "release " + *request.to + " of '" + request.app + "' is not kept here")
        .expected(versions.empty() ? "none is kept" : base::join(versions, ", "))
        .got(*request.to);
  if (request.force) return *request.to;
  for (const journal::ReleaseRow& row : releases)
    if (row.version == *request.to && !row.removed && row.state != journal::ReleaseState::good)
      return Error(Code::failed_before, "release " + *request.to + " was never committed here")
          .expected("a good release")
          .got(std::string(journal::release_state_name(row.state)))
          .hint("--force goes there all the same");
  return *request.to;
}

base::Status floor_allows(const store::AppStore& store, const store::Links& links,
                          const std::string& target) {
  if (!links.current || *links.current == target) return base::ok();
  const auto current = store.description(*links.current);
  return current ? check_floor(*current, target) : base::ok();
}

}  // namespace

base::Result<DeployResult> rollback(const Context& context, const RollbackRequest& request) {
  UPD_TRY(prepare_root(context.layout));
  Plan plan;
  plan.settings = settings_or_defaults(context, request.app);
  plan.node_name = plan.settings.node_name;
  UPD_ASSIGN(store::AppStore store,
             store::AppStore::open(context.layout.app(request.app), request.app, false));
  UPD_TRY(base::make_directories(context.layout.runtime, 0755));
  UPD_ASSIGN(plan.lock,
             take_driver_lock(context.layout, request.app, request.wait, context.interrupt));
  plan.locked = true;
  // Going back never waits for the database: without it the links and the trees tell enough.
  std::optional<journal::Journal> journal = open_journal_or_warn(context, plan.settings);
  std::vector<journal::ReleaseRow> releases;
  std::optional<journal::AppRow> app;
  if (journal) {
    auto ended = recover_locked(context, &*journal, request.app);
    if (!ended) {
      context.observer->warning(ended.error().line() + ": going on without the database");
      journal.reset();
    } else if (*ended && (*ended)->outcome == Outcome::rolled_back && !request.to) {
      // that was the way back; another step would go past the release that was good
      (*ended)->requested_rollback = true;
      return std::move(**ended);
    }
  }
  if (journal) {
    if (auto known = journal->releases(request.app)) releases = std::move(*known);
    if (auto known = journal->app(request.app)) app = std::move(*known);
  }
  UPD_ASSIGN(const store::Links links, store.links());
  UPD_ASSIGN(const std::string target,
             rollback_target(request, store, links, releases, app, *context.observer));
  if (!request.force) UPD_TRY(floor_allows(store, links, target));
  journal::DeploymentRow row = new_row(context, "rollback", "releases/" + target);
  row.app = request.app;
  row.from_version = links.current.value_or("");
  row.to_version = target;
  row.committed_before = links.committed.value_or("");
  if (const auto digest = store.manifest_digest(target)) row.to_digest = digest->hex();
  plan.request.wait = request.wait;
  plan.request.end_oldest = true;  // a way back does not wait for streams to end
  plan.store.emplace(std::move(store));
  if (links.current == target && links.committed == target) {
    DeployResult result;
    result.trace_id = row.trace_id;
    result.app = request.app;
    result.from = result.to = target;
    result.outcome = Outcome::unchanged;
    result.reason = "already_current";
    return result;
  }
  Engine engine(context, journal ? &*journal : nullptr, std::move(plan), std::move(row));
  return engine.run_requested_rollback();
}

DeployResult Engine::run_requested_rollback() {
  // Going back never waits for the database, from the first row on.
  recorder_.stop_waiting_for_the_journal();
  base::Status status = recorder_.open();
  if (status) {
    std::vector<std::string> command = context_.guardian_command;
    if (!command.empty()) command.push_back(recorder_.row().app);
    auto guardian = Guardian::start(command);
    if (guardian)
      plan_.guardian = std::move(*guardian);
    else
      status = guardian.error();
  }
  if (status) status = recorder_.begin(State::verify);
  base::failpoint::hit("deploy.begin.verify");
  if (status) status = verify_rollback_target();
  if (!status) {
    recorder_.end("failure", {{"message", status.error().line()}}, status.error().line());
    static_cast<void>(fail(std::move(status).error()));
    return finish();
  }
  recorder_.end("success", std::move(stage_detail_), stage_summary_);
  return run(State::rollback);
}

// The manifest that the tree is checked against must itself be the one that was signed and
// installed.
base::Status Engine::check_identity(const std::string& version) {
  const auto damaged = [&](const std::string& expected, const std::string& got) {
    return Error(Code::damaged, "the kept manifest of " + version + " was changed")
        .expected(expected)
        .got(got)
        .hint("apply " + version + " again from its artifact with --allow-downgrade");
  };
  UPD_ASSIGN(const base::Digest digest, plan_.store->manifest_digest(version));
  UPD_ASSIGN(const std::string envelope, plan_.store->envelope(version));
  UPD_ASSIGN(const trust::Envelope read, trust::parse_envelope(envelope));
  UPD_ASSIGN(const trust::Statement statement, trust::parse_statement(read.payload));
  if (statement.manifest_digest != digest)
    return damaged("manifest " + statement.manifest_digest.hex() + ", which was signed",
                   digest.hex());
  if (journal_ == nullptr) return base::ok();
  const auto rows = journal_->releases(recorder_.row().app);
  if (!rows) return base::ok();
  bool known = false;
  for (const journal::ReleaseRow& row : *rows) {
    if (row.version != version) continue;
    known = true;
    if (row.digest == digest.hex()) return base::ok();
  }
  return known ? base::Status(damaged("a manifest that was installed here", digest.hex()))
               : base::ok();
}

// Re-hashed before anything moves; needs no network.
base::Status Engine::verify_rollback_target() {
  const std::string& version = recorder_.row().to_version;
  UPD_TRY(check_identity(version));
  UPD_ASSIGN(const release::Manifest manifest, plan_.store->manifest(version));
  UPD_ASSIGN(const store::TreeReport report,
             store::verify_tree(plan_.store->path(version), manifest, context_.interrupt));
  if (!report.problems.empty())
    return Error(Code::damaged,
                 "the kept tree of " + version + " is damaged: " + report.problems.front())
        .hint("apply " + version + " again from its artifact with --allow-downgrade");
  stage_summary_ = std::to_string(report.entries) + " entries intact";
  add_stage_detail("entries", report.entries);
  return base::ok();
}

}  // namespace updagent::deploy
