// deployment pause, resume, promote, abort: what people want of a deployment that is under way. The
// supervisor hands it to whoever drives; before there is a candidate the driver itself is asked.
#include <signal.h>

#include <array>
#include <memory>

#include "agent/base/files.hpp"
#include "agent/base/pidfd.hpp"
#include "agent/deploy/supervise.hpp"
#include "cli/journal_access.hpp"
#include "cli/verbs.hpp"

namespace updagent::cli {
namespace {

using base::Code;
using base::Error;
using base::Exit;

// The driver looks at its orders at least once a second, unless a hook of its release runs.
constexpr base::Milliseconds kTakenWithin{10'000};
constexpr std::size_t kMaxCommBytes = 64;  // the kernel keeps 16

struct Ordered {
  bool taken = false;
  std::string trace;
};

Error nothing_under_way(const std::string& app) {
  return Error(Code::not_found, "no deployment of '" + app + "' is under way")
      .hint("updagent status " + app);
}

base::Result<Ordered> order_through(service::Client& client, const std::string& word) {
  UPD_ASSIGN(const Json answer,
             client.ask("order", {{"order", word}, {"actor", actor_of_this_process()}}));
  Ordered ordered{false, answer.value("trace_id", std::string())};
  const base::Deadline end = base::Deadline::in(kTakenWithin);
  while (!end.passed()) {
    const auto news = client.next_news(end.left(), nullptr);
    if (!news) break;  // its successor tells the driver again
    if (!*news || (*news)->value("news", std::string()) != "order_taken") continue;
    ordered.taken =
        (*news)->value("id", std::uint64_t{0}) == answer.value("order_id", std::uint64_t{0});
    if (ordered.taken) break;
  }
  return ordered;
}

bool is_updagent(std::int64_t pid) {
  const auto comm = base::read_file("/proc/" + std::to_string(pid) + "/comm", kMaxCommBytes);
  return comm && comm->starts_with("updagent");
}

// No candidate yet: nothing has changed, and ^C is how its driver ends it.
base::Result<Ordered> abort_driver(Session& session, const std::string& app) {
  UPD_ASSIGN(VerbJournal journal, open_to_write(session));
  UPD_ASSIGN(const auto open, journal.open_deployment(app));
  if (!open || open->boot_id != base::boot_id()) return nothing_under_way(app);
  const base::UniqueFd driver = base::open_pidfd(static_cast<pid_t>(open->driver_pid));
  // the pid is the driver's as long as somebody holds the app's lock and it is one of us
  if (!driver || !is_updagent(open->driver_pid) || !driver_runs(session, app))
    return nothing_under_way(app);
  journal::EventDraft event = node_event("deployment.ordered", app,
                                         {{"order", "abort"}, {"actor", actor_of_this_process()}});
  event.trace_id = open->trace_id;
  UPD_TRY(journal.record({&event, 1}));
  if (!base::signal_pidfd(driver, SIGTERM)) return nothing_under_way(app);
  return Ordered{true, open->trace_id};
}

base::Result<Ordered> give_order(Session& session, const std::string& app,
                                 const std::string& word) {
  auto client = deploy::connect_supervisor(session.layout(), app);
  if (!client && client.error().code() != Code::not_found)
    return std::move(client).error().hint("orders are given by who runs updagent: root, mostly");
  if (client) {
    auto ordered = order_through(*client, word);
    if (ordered || ordered.error().code() != Code::not_found) return ordered;
  }
  if (!driver_runs(session, app)) return nothing_under_way(app);
  if (word == "abort") return abort_driver(session, app);
  return Error(Code::busy, "the deployment of '" + app + "' has no candidate yet")
      .expected("a deployment that has come as far as the stage start")
      .hint("updagent status " + app + " shows its stage; abort ends it at any moment");
}

Exit run_order(Session& session, const std::string& app, const std::string& word) {
  const auto ordered = give_order(session, app, word);
  if (!ordered) return session.fail(ordered.error());
  session.document(
      {{"app", app}, {"order", word}, {"taken", ordered->taken}, {"trace_id", ordered->trace}});
  session.print(word + "  " + app +
                (ordered->taken ? "" : "  (recorded; its driver has not taken it yet)") +
                session.dim("   trace " + ordered->trace));
  return Exit::done;
}

struct Word {
  const char* name;
  const char* what;
};
constexpr std::array<Word, 4> kWords = {{
    {"pause", "hold the present share; gates and probes go on judging"},
    {"resume", "go on after a pause"},
    {"promote", "skip the rest of the steps and the watch, and commit"},
    {"abort", "undo it: users go back at once"},
}};

}  // namespace

Run setup_deployment(CLI::App& command) {
  const auto app = std::make_shared<std::string>();
  const auto chosen = std::make_shared<std::string>();
  command.require_subcommand(1);
  for (const Word& word : kWords) {
    CLI::App* sub = command.add_subcommand(word.name, word.what);
    sub->add_option("APP", *app, "the app")->required();
    sub->callback([chosen, name = word.name] { *chosen = name; });
  }
  return [app, chosen](Session& session) { return run_order(session, *app, *chosen); };
}

}  // namespace updagent::cli
