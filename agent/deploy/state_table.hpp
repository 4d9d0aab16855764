// The life of a deployment as one total table. Start here for agent/deploy/: the only folder that
// knows the others. It promises that every deployment ends, by rule, whatever dies in between.
//
// A row says, for one state, where each event leads, and what a restart in that state does: what
// `updagent recover`, the guardian and the next command do when they find a deployment that its
// driver left open. docs/states.md is printed from this table and a test compares them.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace updagent::deploy {

// In the order of a deployment. Every state but `abandon` and `closed` is also a stage of the log.
enum class State {
  fetch,
  verify,
  stage,
  pre_upgrade,
  start,      // the candidate's generation
  preflight,  // its probes, before it has a user
  switching,  // stage "switch": `current` moves
  shift,      // the traffic moves
  watch,
  commit,
  abandon,   // before the switch: nothing to undo but what pre_upgrade may have done
  rollback,  // after the switch: the previous release becomes current again
  cleanup,
  closed,
};
inline constexpr std::size_t kStateCount = 14;

enum class Event {
  done,
  failed,
  interrupted,  // ^C or SIGTERM
  restarted,    // found open: the driver died, or the machine did
};
inline constexpr std::size_t kEventCount = 4;

// What a restart has to find out first: the stored row gives the state, the disk decides the rest.
enum class Restart {
  nothing,             // closed
  abandon,             // current was not touched
  roll_back,           // current may name the candidate
  ask_committed_link,  // committed names the candidate: go on; otherwise roll back
  again,               // the step may be repeated
};

struct Row {
  State state;
  std::string_view stage;  // in events; "" = not a stage
  std::string_view phase;  // pre-upgrade, upgrade, post-check, rollback
  State done;
  State failed;
  State interrupted;
  Restart restarted;
  unsigned strategies;    // which pass through it: kFiles | kHandoff | kRestart
  std::string_view what;  // for docs
};

const std::array<Row, kStateCount>& state_table();
const Row& row_of(State state);

// What happens after `stage`: docs/states.md.
enum class Strategy { files, handoff, restart };
inline constexpr unsigned kFiles = 1;
inline constexpr unsigned kHandoff = 2;
inline constexpr unsigned kRestart = 4;
inline constexpr unsigned kEveryStrategy = kFiles | kHandoff | kRestart;
std::optional<Strategy> strategy_from_name(std::string_view name);

// The next state for `event` (not `restarted`), skipping states that the strategy doesn't have.
State next_state(State state, Event event, Strategy strategy);

std::string_view state_name(State state);  // as stored in the database
std::optional<State> state_from_name(std::string_view name);
std::string_view restart_text(Restart restart);

// A deployment passes each state at most twice (its own run and one recovery, or a recovery of a
// recovery that repeats a state): past this many steps something loops, and it is closed as failed.
inline constexpr int kMaxSteps = 64;

// The table as Markdown: docs/states.md holds the same text.
std::string states_markdown();

}  // namespace updagent::deploy
