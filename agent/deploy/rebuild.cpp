// A database made again from what is on disk. The trees are judged first and every app is locked
// all the while: the old database goes aside when nothing is left but to write the rows.
#include "agent/base/files.hpp"
#include "agent/deploy/driver_lock.hpp"
#include "agent/deploy/node.hpp"

namespace updagent::deploy {

namespace {

struct JudgedTree {
  journal::ReleaseRow row;
  std::string problem;  // "" = intact
};

JudgedTree judge(const Context& context, const store::AppStore& store, const std::string& version,
                 const store::Links& links) {
  JudgedTree tree;
  const auto manifest = store.manifest(version);
  const auto digest = store.manifest_digest(version);
  const auto report = manifest
                          ? store::verify_tree(store.path(version), *manifest, context.interrupt)
                          : base::Result<store::TreeReport>(manifest.error());
  if (!digest) tree.problem = digest.error().line();
  if (!report) tree.problem = report.error().line();
  if (report && !report->problems.empty()) tree.problem = report->problems.front();
  // Intact trees of the committed version and below were good once; nothing tells of the rest.
  const auto mark = release::parse_semver(links.committed.value_or(""));
  const auto own = release::parse_semver(version);
  const bool was_good = mark && own && release::precedence(*own, *mark) <= 0;
  tree.row.app = store.name();
  tree.row.version = version;
  if (digest) tree.row.digest = digest->hex();
  tree.row.state = !tree.problem.empty() ? journal::ReleaseState::failed
                   : was_good            ? journal::ReleaseState::good
                                         : journal::ReleaseState::staged;
  tree.row.installed_us = base::wall_now_us();
  tree.row.trace_id = journal::new_trace_id();
  if (const auto size = base::disk_usage(store.path(version))) tree.row.size_bytes = *size;
  return tree;
}

journal::EventDraft event_of(const Context& context, const std::string& trace_id) {
  journal::EventDraft event;
  event.trace_id = trace_id;
  event.span_id = journal::new_span_id();
  event.event = "journal.rebuilt";
  event.stage = "recover";
  event.status = "success";
  event.timestamp_us = base::wall_now_us();
  event.actor = context.actor;
  return event;
}

// The first event of the new chain names the end of the old one.
base::Status record_start(const Context& context, journal::Journal& journal,
                          const journal::SetAside& aside) {
  journal::EventDraft event = event_of(context, journal::new_trace_id());
  event.detail = {{"old_database", aside.path}};
  if (aside.head) {
    event.detail["old_count"] = aside.head->count;
    event.detail["old_hash"] = aside.head->hash.hex();
  }
  return journal.record(std::span(&event, 1));
}

base::Status record_tree(const Context& context, journal::Journal& journal, const JudgedTree& tree,
                         const std::string& committed) {
  journal::EventDraft event = event_of(context, tree.row.trace_id);
  event.app = tree.row.app;
  event.to_version = tree.row.version;
  event.status = tree.problem.empty() ? "success" : "failure";
  event.detail = {{"state", journal::release_state_name(tree.row.state)},
                  {"digest", tree.row.digest}};
  if (!tree.problem.empty()) event.detail["problem"] = tree.problem;
  journal::AppRow app;
  app.app = tree.row.app;
  app.high_water = committed;
  return journal.record(std::span(&event, 1), nullptr, &tree.row, &app);
}

struct JudgedApp {
  base::FileLock lock;
  std::string committed;
  std::vector<JudgedTree> trees;
};

base::Result<JudgedApp> judge_app(const Context& context, const std::string& app) {
  UPD_ASSIGN(base::FileLock lock,
             take_driver_lock(context.layout, app, base::Milliseconds(0), context.interrupt));
  JudgedApp judged{std::move(lock), "", {}};
  UPD_ASSIGN(const store::AppStore store,
             store::AppStore::open(context.layout.app(app), app, false));
  UPD_ASSIGN(const store::Links links, store.links());
  UPD_ASSIGN(const std::vector<std::string> versions, store.versions());
  judged.committed = links.committed.value_or("");
  for (const std::string& version : versions) {
    judged.trees.push_back(judge(context, store, version, links));
    if (context.interrupt != nullptr && context.interrupt->requested())
      return base::Error(base::Code::interrupted, "stopped while the trees were read");
  }
  return judged;
}

}  // namespace

base::Result<std::vector<std::string>> rebuild(const Context& context) {
  UPD_TRY(prepare_root(context.layout));
  UPD_ASSIGN(const config::Settings settings,
             config::load(context.layout, context.config_file, ""));
  UPD_ASSIGN(const std::vector<std::string> names, apps_on_disk(context));
  std::vector<JudgedApp> apps;
  for (const std::string& name : names) {
    UPD_ASSIGN(JudgedApp app, judge_app(context, name));
    apps.push_back(std::move(app));
  }
  std::vector<std::string> lines;
  UPD_ASSIGN(const journal::SetAside aside, journal::set_damaged_aside(context.journal_paths()));
  if (!aside.path.empty()) lines.push_back("the old database is kept as " + aside.path);
  UPD_ASSIGN(journal::Journal journal, open_journal(context, settings));
  UPD_TRY(record_start(context, journal, aside));
  for (const JudgedApp& app : apps) {
    for (const JudgedTree& tree : app.trees) {
      UPD_TRY(record_tree(context, journal, tree, app.committed));
      lines.push_back(tree.row.app + " " + tree.row.version + ": " +
                      (tree.problem.empty()
                           ? std::string(journal::release_state_name(tree.row.state))
                           : "damaged"));
    }
  }
  show_warnings(context, journal);
  return lines;
}

}  // namespace updagent::deploy
