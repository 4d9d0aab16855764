// The stable names of events. Append, never rename: collectors and alerts match on them.
// docs/audit.md has the same list, and a test compares the two.
#pragma once

#include <array>
#include <string_view>

namespace updagent::journal {

struct EventName {
  std::string_view name;
  std::string_view meaning;  // one line, the same in docs/audit.md
};

inline constexpr std::array<EventName, 58> kEventNames = {{
    {"deployment.started", "a deployment began: what it wants to reach, from where, by whom"},
    {"deployment.finished", "its end: outcome and reason"},
    {"stage.started", "intent: written before the first side effect of a stage"},
    {"stage.finished", "result of a stage, with its duration"},
    {"hook.started",
     "intent: written before a hook is run, or a smoke command (then hook is smoke)"},
    {"hook.finished", "a hook ended: exit status, captured output"},
    {"probe.passed", "a probe passed as often as it had to"},
    {"probe.failed", "a probe did not pass: what was expected and what came"},
    {"probe.recovered", "a probe passes again after it had failed"},
    {"fetch.waiting", "the source can't be reached: waiting, not failing"},
    {"fetch.resumed", "the download goes on, from which byte"},
    {"fetch.replaced", "the file was replaced on the server: the download began again"},
    {"rollback.started", "the way back began, and why"},
    {"recover.started", "a deployment that lost its driver is being ended by rule"},
    {"release.removed", "a release's tree was removed, by retention or by hand"},
    {"release.verified", "an installed tree was hashed again: intact or not"},
    {"trust.added", "a key was added to the trusted ones"},
    {"trust.removed", "a key was removed from the trusted ones"},
    {"app.held", "an operator holds the app at its version"},
    {"app.released", "the hold was taken off"},
    {"app.removed", "the app was removed from this node"},
    {"notify.failed", "a webhook or command could not be told the result"},
    {"log.pruned", "checkpoint: which events were removed, and the hash that the rest follows"},
    {"log.imported", "events that had waited in the spool joined the chain"},
    {"log.head_missing", "audit.head was gone: events at the end may be, too"},
    {"journal.rebuilt", "a damaged database was set aside and made again from the trees"},
    {"service.started", "a generation's or worker's process was started"},
    {"service.ready", "it serves"},
    {"service.failed", "it did not come up, hung, or ended though nobody asked"},
    {"service.restarted", "the active one or a worker was started again after it had failed"},
    {"service.adopted", "a service that updagent did not start became its first generation"},
    {"service.crash_loop", "it fails again and again"},
    {"service.cut", "a generation was killed with connections in use: how many"},
    {"service.stopped", "no process of a generation or worker is left"},
    {"service.complaint", "what it did was refused or cut short, and why"},
    {"traffic.weight", "a share of new connections was given to the candidate, in 1/10,000"},
    {"traffic.promoted", "the candidate has all traffic for good"},
    {"traffic.detached",
     "somebody had detached the steering program; `attached`: whether it is there again"},
    {"traffic.stranger", "a socket that is not ours joined the group of a listener: whose"},
    {"traffic.drain_ended", "a drain was cut short by --end-oldest"},
    {"traffic.drained",
     "an old generation has nothing under way, or its time was over: `busy` connections then, or "
     "the `problem` why nobody can tell"},
    {"traffic.withdrawn", "the candidate was taken back"},
    {"traffic.lease_lost", "nobody renewed the candidate's share: it is 0"},
    {"traffic.driver_gone", "the driver of a deployment ended: the candidate's share is 0"},
    {"supervisor.adopted", "a new supervisor took over what the one before had left"},
    {"supervisor.upgraded", "the supervisor became a newer program; nothing was interrupted"},
    {"supervisor.problem", "something went wrong that stopped nothing"},
    {"app.stopped", "an operator wants it stopped, also after a boot"},
    {"app.started", "that wish was taken off, by an operator or by a commit"},
    {"boot.changed", "what a boot starts was changed: its unit was enabled or disabled, or not"},
    {"deployment.ordered", "an operator paused, resumed, promoted or aborted it: who"},
    {"rollout.step", "a step of the traffic ended: its share as measured, and what it proves"},
    {"rollout.paused", "the deployment holds at its share, and why"},
    {"rollout.resumed", "it goes on"},
    {"gate.passed", "a gate held for a whole window: the numbers of both versions"},
    {"gate.failed", "a gate did not hold: the numbers of both versions"},
    {"gate.no_data", "a gate has nothing to judge by, and why"},
    {"gate.skipped", "a gate can't be judged here, and why"},
}};

// What the journal itself writes: the actor of these events is kJournalActor.
inline constexpr std::string_view kLogPruned = "log.pruned";
inline constexpr std::string_view kLogImported = "log.imported";
inline constexpr std::string_view kHeadMissing = "log.head_missing";
inline constexpr std::string_view kJournalActor = "journal";

}  // namespace updagent::journal
