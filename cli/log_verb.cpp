// log, log show, log verify, log export, log prune: explaining every deployment.
#include <algorithm>
#include <memory>

#include "agent/base/text.hpp"
#include "agent/deploy/state_table.hpp"
#include "cli/journal_access.hpp"
#include "cli/timeline.hpp"
#include "cli/verbs.hpp"

namespace updagent::cli {
namespace {

using base::Code;
using base::Error;
using base::Exit;

struct LogOptions {
  journal::LogFilter filter;
  std::string since;
  std::string until;
  std::string trace;   // show
  std::string head;    // verify
  std::string before;  // prune
  int limit = 50;
};

base::Status resolve(LogOptions& options) {
  if (!options.since.empty()) {
    UPD_ASSIGN(options.filter.since_us, parse_time(options.since));
  }
  if (!options.until.empty()) {
    UPD_ASSIGN(options.filter.until_us, parse_time(options.until));
  }
  options.filter.limit = static_cast<std::size_t>(options.limit);
  if (!options.filter.trace.empty() && options.filter.trace.size() < 6)
    return Error(Code::usage, "the trace id is too short")
        .expected("at least its first 6 digits")
        .got("'" + options.filter.trace + "'");
  return base::ok();
}

std::string column(std::string_view text, std::size_t width) {
  std::string out = base::printable(text);
  if (out.size() < width) out.append(width - out.size(), ' ');
  return out;
}

// "gate_failed, errors, error_ratio 1 (48 of 48), expected <= 0.05"; "generation 3, busy 1"
std::string detail_text(const journal::Json& detail) {
  std::vector<std::string> parts;
  for (const char* key : {"outcome", "reason", "order", "actor", "hook", "probe", "gate", "result",
                          "message", "problem", "what", "who"})
    if (const auto found = detail.find(key); found != detail.end() && found->is_string() &&
                                             !found->get_ref<const std::string&>().empty())
      parts.push_back(found->get<std::string>());
  for (const char* key : {"generation", "weight", "busy", "percent", "connections", "of"})
    if (const auto found = detail.find(key); found != detail.end() && found->is_number_integer())
      parts.push_back(std::string(key) + " " + std::to_string(found->get<std::int64_t>()));
  return base::join(parts, ", ");
}

std::string event_line(const Session& session, const journal::Event& event) {
  const std::string when = base::format_rfc3339(event.timestamp_us);
  std::string versions = event.to_version;
  if (!event.from_version.empty()) versions = event.from_version + " -> " + event.to_version;
  std::string status = column(event.status, 8);
  if (event.status == "failure") status = session.bad(status);
  if (event.status == "success") status = session.good(status);
  return session.dim(when.substr(0, 10) + " " + when.substr(11, 12)) + "  " +
         column(event.app, 10) + " " + column(event.event, 20) + " " + column(event.stage, 12) +
         status + column(event.duration_us < 0 ? "" : base::human_duration(event.duration_us), 9) +
         " " + column(versions, 16) + " " + session.dim(event.trace_id.substr(0, 8)) + "  " +
         base::printable(detail_text(event.detail));
}

Exit run_query(Session& session, LogOptions& options) {
  const base::Status resolved = resolve(options);
  if (!resolved) return session.fail(resolved.error());
  auto journal = open_with_news(session);
  if (!journal) return session.fail(journal.error());
  std::size_t count = 0;
  const base::Status read = journal->query(options.filter, [&](const journal::Event& event) {
    ++count;
    if (session.json()) {
      session.raw(journal::to_json(event).dump(-1, ' ', session.terminal_out(),
                                               journal::Json::error_handler_t::replace) +
                  "\n");
    } else {
      session.print(event_line(session, event));
    }
    return !session.answer_failed();
  });
  if (!read) return session.fail(read.error());
  if (count == 0) session.print("no event fits these filters");
  return Exit::done;
}

Exit run_export(Session& session, LogOptions& options) {
  options.limit = 0;
  const base::Status resolved = resolve(options);
  if (!resolved) return session.fail(resolved.error());
  auto journal = open_with_news(session);
  if (!journal) return session.fail(journal.error());
  const base::Status read = journal->query(options.filter, [&](const journal::Event& event) {
    journal::Json line = journal::to_json(event);
    line["previous"] = event.previous.hex();
    line["hash"] = event.hash.hex();
    session.raw(
        line.dump(-1, ' ', session.terminal_out(), journal::Json::error_handler_t::replace) + "\n");
    return !session.answer_failed();
  });
  if (!read) return session.fail(read.error());
  // The head goes out with the events: kept elsewhere, it proves that nothing was changed before
  // it.
  const auto head = journal->head();
  if (!head) return session.fail(head.error());
  session.raw(Json{{"audit_head", {{"count", head->count}, {"hash", head->hash.hex()}}}}.dump() +
              "\n");
  return Exit::done;
}

Exit run_show(Session& session, const LogOptions& options) {
  auto journal = open_with_news(session);
  if (!journal) return session.fail(journal.error());
  journal::LogFilter filter;
  filter.trace = options.trace;
  filter.limit = 0;
  std::vector<journal::Event> events;
  const base::Status read = journal->query(filter, [&](const journal::Event& event) {
    events.push_back(event);
    return events.size() < kMaxTimelineEvents;
  });
  if (!read) return session.fail(read.error());
  const auto row = journal->deployment(events.front().trace_id);
  Json document = {{"trace_id", events.front().trace_id}, {"deployment", nullptr}};
  if (row && *row)
    document["deployment"] = {
        {"app", (*row)->app},       {"kind", (*row)->kind},       {"from", (*row)->from_version},
        {"to", (*row)->to_version}, {"source", (*row)->source},   {"actor", (*row)->actor},
        {"state", (*row)->state},   {"outcome", (*row)->outcome}, {"reason", (*row)->reason}};
  Json list = Json::array();
  for (const journal::Event& event : events) list.push_back(Json(journal::to_json(event)));
  document["events"] = list;
  session.document(document);
  for (const std::string& line : draw_timeline(session, events, row && *row ? &**row : nullptr))
    session.print(line);
  return Exit::done;
}

base::Result<std::optional<journal::HeadProof>> parse_head(const std::string& text) {
  if (text.empty()) return std::optional<journal::HeadProof>();
  const std::size_t colon = text.find(':');
  const auto count = base::parse_u64(std::string_view(text).substr(0, colon));
  const auto hash =
      colon == std::string::npos ? std::nullopt : base::Digest::from_hex(text.substr(colon + 1));
  if (!count || !hash || *count > INT64_MAX)
    return Error(Code::usage, "--head is wrong")
        .expected("COUNT:HASH, as log verify prints it")
        .got("'" + text + "'");
  return std::optional<journal::HeadProof>(
      journal::HeadProof{static_cast<std::int64_t>(*count), *hash});
}

Exit run_verify(Session& session, const LogOptions& options) {
  const auto known = parse_head(options.head);
  if (!known) return session.fail(known.error());
  auto journal = open_to_read(session);
  if (!journal) return session.fail(journal.error());
  const auto report = journal->verify(*known);
  if (!report) return session.fail(report.error());
  const std::string head = std::to_string(report->head.count) + ":" + report->head.hash.hex();
  const Json document = {{"intact", report->problem.empty()},
                         {"events", report->events},
                         {"first_event", report->first_event},
                         {"head", head},
                         {"notes", report->notes}};
  if (!report->problem.empty())
    return session.fail(
        Error(Code::damaged, "the audit log was changed: " + report->problem)
            .hint("keep a copy of " + session.layout().database() + " before anything else"),
        document);
  session.document(document);
  session.print(session.good("intact") + "  " + std::to_string(report->events) + " events, from " +
                std::to_string(report->first_event) + " on");
  session.print("head    " + head);
  for (const std::string& note : report->notes) session.print("note    " + base::printable(note));
  session.print(
      session.dim("keep the head elsewhere: log verify --head proves later that nothing before it "
                  "was changed"));
  return Exit::done;
}

Exit run_prune(Session& session, const LogOptions& options) {
  const auto before = parse_time(options.before);
  if (!before) return session.fail(before.error());
  auto journal = open_to_write(session);
  if (!journal) return session.fail(journal.error());
  const auto removed = journal->prune(*before, actor_of_this_process());
  if (!removed) return session.fail(removed.error());
  session.document({{"removed", *removed}});
  session.print(std::to_string(*removed) + " events before " + base::format_rfc3339(*before) +
                " removed; a checkpoint keeps the chain whole");
  return Exit::done;
}

// "fetch, verify, stage, …"
std::string stage_names() {
  std::vector<std::string> names;
  for (const deploy::Row& row : deploy::state_table())
    if (!row.stage.empty()) names.emplace_back(row.stage);
  return base::join(names, ", ");
}

void add_filters(CLI::App& command, LogOptions& options) {
  command.add_option("--app", options.filter.app, "only this app")->type_name("APP");
  command
      .add_option("--trace", options.filter.trace,
                  "only this trace (its first 6 digits are enough)")
      ->type_name("ID");
  command.add_option("--stage", options.filter.stage, stage_names())->type_name("STAGE");
  command.add_option("--status", options.filter.status, "started, success, failure or skipped")
      ->type_name("S")
      ->check(CLI::IsMember({"started", "success", "failure", "skipped"}));
  command.add_option("--since", options.since, "2h (ago), a date, or RFC 3339")->type_name("TIME");
  command.add_option("--until", options.until, "as --since")->type_name("TIME");
}

}  // namespace

Run setup_log(CLI::App& command) {
  const auto options = std::make_shared<LogOptions>();
  add_filters(command, *options);
  command.add_option("--limit", options->limit, "the newest N events (0: all)")
      ->type_name("N")
      ->capture_default_str()
      ->check(CLI::Range(0, 1'000'000'000));
  CLI::App* show =
      command.add_subcommand("show", "one deployment as a timeline, with the reason of its end");
  show->add_option("TRACE", options->trace, "trace id, or its first digits (6 at least)")
      ->required()
      ->check([](const std::string& text) {
        return text.size() >= 6 ? "" : "expected at least the first 6 digits of a trace id";
      });
  CLI::App* verify = command.add_subcommand("verify", "check the whole chain of hashes");
  verify->add_option("--head", options->head, "a head that was kept elsewhere")
      ->type_name("COUNT:HASH");
  CLI::App* exported = command.add_subcommand(
      "export", "all events as JSON Lines, with their hashes, then the head");
  add_filters(*exported, *options);
  CLI::App* prune =
      command.add_subcommand("prune", "remove old events, leaving a checkpoint in the chain");
  prune->add_option("--before", options->before, "2h (ago), a date, or RFC 3339")
      ->type_name("TIME")
      ->required();
  for (CLI::App* sub : {show, verify, exported, prune}) sub->fallthrough();
  return [=](Session& session) {
    if (show->parsed()) return run_show(session, *options);
    if (verify->parsed()) return run_verify(session, *options);
    if (exported->parsed()) return run_export(session, *options);
    if (prune->parsed()) return run_prune(session, *options);
    return run_query(session, *options);
  };
}

}  // namespace updagent::cli
