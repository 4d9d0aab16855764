#include "agent/deploy/state_table.hpp"

#include "agent/release/service.hpp"

namespace updagent::deploy {

const std::array<Row, kStateCount>& state_table() {
  using S = State;
  using R = Restart;
  static constexpr std::array<Row, kStateCount> kTable = {{
      // state, stage, phase, done, failed, interrupted, restarted, strategies, what
      {S::fetch, "fetch", "pre-upgrade", S::verify, S::abandon, S::abandon, R::abandon,
       kEveryStrategy, "get the artifact; what came is kept for resume"},
      {S::verify, "verify", "pre-upgrade", S::stage, S::abandon, S::abandon, R::abandon,
       kEveryStrategy, "signatures, manifest, what the node allows, room on disk"},
      {S::stage, "stage", "pre-upgrade", S::pre_upgrade, S::abandon, S::abandon, R::abandon,
       kEveryStrategy, "unpack and hash into incoming/, make durable, rename into releases/"},
      {S::pre_upgrade, "pre_upgrade", "pre-upgrade", S::start, S::abandon, S::abandon, R::abandon,
       kEveryStrategy, "the new release's pre_upgrade hook"},
      {S::start, "start", "upgrade", S::preflight, S::abandon, S::abandon, R::abandon, kHandoff,
       "start the candidate's generation beside the one that serves"},
      {S::preflight, "preflight", "upgrade", S::switching, S::abandon, S::abandon, R::abandon,
       kHandoff, "probe the candidate through the production port"},
      {S::switching, "switch", "upgrade", S::shift, S::rollback, S::rollback, R::ask_committed_link,
       kEveryStrategy, "current names the candidate; its post_switch hook"},
      {S::shift, "shift", "upgrade", S::watch, S::rollback, S::rollback, R::ask_committed_link,
       kHandoff | kRestart,
       "the traffic goes to the candidate (restart: the old one stops, then it starts)"},
      {S::watch, "watch", "post-check", S::commit, S::rollback, S::rollback, R::ask_committed_link,
       kEveryStrategy, "probes must pass, then hold for the watch time"},
      {S::commit, "commit", "post-check", S::cleanup, S::rollback, S::rollback,
       R::ask_committed_link, kEveryStrategy,
       "hash the tree once more; committed names the candidate"},
      {S::abandon, "", "rollback", S::cleanup, S::cleanup, S::cleanup, R::abandon, kEveryStrategy,
       "the old release's post_rollback hook if pre_upgrade had run"},
      {S::rollback, "rollback", "rollback", S::cleanup, S::cleanup, S::rollback, R::roll_back,
       kEveryStrategy, "current names the previous release; its post_rollback hook; its probes"},
      {S::cleanup, "cleanup", "post-check", S::closed, S::closed, S::closed, R::again,
       kEveryStrategy, "post_commit hook, retention, leftovers"},
      {S::closed, "", "", S::closed, S::closed, S::closed, R::nothing, kEveryStrategy,
       "the outcome is in the log"},
  }};
  return kTable;
}

const Row& row_of(State state) {
  return state_table()[static_cast<std::size_t>(state)];
}

State next_state(State state, Event event, Strategy strategy) {
  const auto follow = [event](const Row& row) {
    switch (event) {
      case Event::done:
        return row.done;
      case Event::failed:
        return row.failed;
      case Event::interrupted:
        return row.interrupted;
      case Event::restarted:
        break;  // decided by the caller with Row::restarted
    }
    return State::closed;
  };
  State next = follow(row_of(state));
  const unsigned bit = 1U << static_cast<unsigned>(strategy);
  while ((row_of(next).strategies & bit) == 0) next = row_of(next).done;
  return next;
}

std::optional<Strategy> strategy_from_name(std::string_view name) {
  if (name == release::kStrategyFiles) return Strategy::files;
  if (name == release::kStrategyHandoff) return Strategy::handoff;
  if (name == release::kStrategyRestart) return Strategy::restart;
  return std::nullopt;
}

std::string_view state_name(State state) {
  switch (state) {
    case State::switching:
      return "switch";
    case State::abandon:
      return "abandon";
    case State::closed:
      return "closed";
    case State::fetch:
    case State::verify:
    case State::stage:
    case State::pre_upgrade:
    case State::start:
    case State::preflight:
    case State::shift:
    case State::watch:
    case State::commit:
    case State::rollback:
    case State::cleanup:
      break;
  }
  return row_of(state).stage;
}

std::optional<State> state_from_name(std::string_view name) {
  for (const Row& row : state_table())
    if (state_name(row.state) == name) return row.state;
  return std::nullopt;
}

std::string_view restart_text(Restart restart) {
  switch (restart) {
    case Restart::nothing:
      return "nothing";
    case Restart::abandon:
      return "abandon";
    case Restart::roll_back:
      return "roll back";
    case Restart::ask_committed_link:
      return "committed names the candidate: cleanup; else roll back";
    case Restart::again:
      return "again";
  }
  return "";
}

namespace {

std::string strategies_text(unsigned strategies) {
  if (strategies == kEveryStrategy) return "all";
  return strategies == kHandoff ? "handoff" : "handoff, restart";
}

}  // namespace

std::string states_markdown() {
  std::string out =
      "| state | phase | strategies | what happens | done | failed | ^C, SIGTERM | after a restart "
      "|\n| --- | --- | --- | --- | --- | --- | --- | --- |\n";
  const auto cell = [&out](std::string_view text) {
    out += " ";
    out += text.empty() ? "-" : text;
    out += " |";
  };
  for (const Row& row : state_table()) {
    out += "|";
    cell(state_name(row.state));
    cell(row.phase);
    cell(strategies_text(row.strategies));
    cell(row.what);
    cell(row.state == State::closed ? "-" : state_name(row.done));
    cell(row.state == State::closed ? "-" : state_name(row.failed));
    cell(row.state == State::closed ? "-" : state_name(row.interrupted));
    cell(restart_text(row.restarted));
    out += "\n";
  }
  return out;
}

}  // namespace updagent::deploy
