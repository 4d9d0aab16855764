// The database: audit chain, deployment rows, release rows, app rows. Start here for
// agent/journal/. It promises that an event that was written stays, in its place, and that
// tampering shows. It never decides anything about a deployment.
//
// SQLite in WAL mode, synchronous=FULL, WAL files kept so that a reader in the audit group needs no
// write access. schema/NNNN_*.sql are embedded and applied in order (docs/adr has the rules).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "agent/base/clock.hpp"
#include "agent/base/error.hpp"
#include "agent/journal/event.hpp"

namespace updagent::journal {

inline constexpr std::size_t kMaxDetailBytes = 256 * 1024;    // of one event; longer is cut, marked
inline constexpr std::uint64_t kReserveBytes = 4ULL << 20;    // given up when the disk is full
inline constexpr std::uint64_t kMaxSpoolBytes = 16ULL << 20;  // events that wait for the database

struct Paths {
  std::string database;
  std::string head;   // audit.head
  std::string spool;  // directory of JSON Lines files
  std::string reserve;
};

// The one state that this folder knows: what has it is never opened again.
inline constexpr std::string_view kClosedState = "closed";

// A deployment: position and outcome are two things.
struct DeploymentRow {
  std::string trace_id;
  std::string root_span_id;
  std::string app;
  std::string kind;          // apply, rollback
  std::string from_version;  // "" = none
  std::string to_version;    // "" = not known yet
  std::string to_digest;     // manifest, hex
  std::string source;        // redacted URL or path
  std::string actor;
  std::string state;  // name of a state of agent/deploy's table; open until it is kClosedState
  bool pre_upgrade_ran = false;
  std::string outcome;  // "" until decided; committed, rolled_back, aborted, refused, unchanged
  std::string reason;
  std::int64_t started_us = 0;
  std::int64_t ended_us = 0;
  std::int64_t driver_pid = 0;
  std::string boot_id;
  std::int64_t bytes_downloaded = 0;
  std::int64_t bytes_reused = 0;
  std::string committed_before;  // what `committed` named when it began, "" = nothing
  bool allows_downgrade = false;
};

enum class ReleaseState { staged, good, failed };
std::string_view release_state_name(ReleaseState state);

struct ReleaseRow {
  std::string app;
  std::string version;
  std::string digest;  // manifest, hex
  ReleaseState state = ReleaseState::staged;
  std::uint64_t size_bytes = 0;  // on disk when it was staged
  std::int64_t installed_us = 0;
  std::string trace_id;
  // The tree is gone. The row stays: the same version with other contents is still refused.
  bool removed = false;
};

struct AppRow {
  std::string app;
  std::string high_water;  // highest version committed: the mark for downgrades ("" = none)
  std::string previous;    // good release that was current before the committed one
  // Read with the rest, written by hold() alone: a commit and an operator never undo each other.
  bool held = false;
  std::string held_by;
  std::int64_t held_us = 0;
  // The same for wish_stopped(): it is to stay stopped, also after a boot.
  bool stopped = false;
  std::string stopped_by;
  std::int64_t stopped_us = 0;
};

struct LogFilter {
  std::string app, trace, stage, status;  // "" = any; trace may be a prefix of at least 6 digits
  std::optional<std::int64_t> since_us, until_us;
  std::size_t limit = 50;  // newest ones; 0 = all
};

struct HeadProof {
  std::int64_t count = 0;
  base::Digest hash;
};

struct VerifyReport {
  std::int64_t events = 0;       // checked
  std::int64_t first_event = 0;  // 1, or the one after the last checkpoint
  HeadProof head;
  std::string problem;             // "" = intact; otherwise which row and what is wrong with it
  std::vector<std::string> notes;  // what could not be compared, and why that is no problem
};

class Journal {
 public:
  enum class Mode { read_write, read_only };
  // read_write makes and migrates the database, imports the spool and keeps the reserve in place.
  // Code::journal_unusable when it is damaged, or newer than this binary can write.
  // read_only: Code::not_found when there is no journal yet.
  // `group`: gets read access (0640), "" = none. `busy_timeout` bounds each wait for other writers.
  static base::Result<Journal> open(const Paths& paths, const std::string& node_name, Mode mode,
                                    const std::string& group = "",
                                    base::Milliseconds busy_timeout = base::Milliseconds(10'000));
  Journal(Journal&&) noexcept;
  Journal& operator=(Journal&&) noexcept;
  ~Journal();

  // One BEGIN IMMEDIATE: the events join the chain in order, `deployment` (if any) is stored beside
  // them, then audit.head is replaced. All or nothing.
  base::Status record(std::span<const EventDraft> events, const DeploymentRow* deployment = nullptr,
                      const ReleaseRow* release = nullptr, const AppRow* app = nullptr);

  // An operator's hold, or its end (`by` and `since_us` are stored as they are given).
  base::Status hold(const EventDraft& event, const AppRow& row);
  // That an app is to stay stopped, or that it is not any more.
  base::Status wish_stopped(const EventDraft& event, const AppRow& row);

  // A row that waits in the spool because it could not be imported counts: it is the newer truth.
  base::Result<std::optional<DeploymentRow>> open_deployment(const std::string& app);
  // By trace id, or by a prefix of it that is unique.
  base::Result<std::optional<DeploymentRow>> deployment(const std::string& trace_id);
  // The newest of the app, open or closed.
  base::Result<std::optional<DeploymentRow>> last_deployment(const std::string& app);
  // The newest that moved a link (or tried to): refused and abandoned attempts don't count.
  base::Result<std::optional<DeploymentRow>> last_switching_deployment(const std::string& app);
  // Whether any deployment ever had this release as its goal.
  base::Result<bool> was_a_goal(const std::string& app, const std::string& version);
  base::Result<std::vector<std::string>> apps_with_open_deployment();
  base::Result<std::vector<ReleaseRow>> releases(const std::string& app);
  base::Result<std::optional<AppRow>> app(const std::string& app);
  base::Result<std::vector<std::string>> apps();  // every one that was ever named here

  // Oldest first, by time (late ones in their place). Streams: `each` returns false to stop.
  // Code::not_found when no event has that trace, Code::usage when a prefix fits several.
  base::Status query(const LogFilter& filter, const std::function<bool(const Event&)>& each);
  base::Result<VerifyReport> verify(const std::optional<HeadProof>& known_head);
  base::Result<HeadProof> head();
  // Removes events before `before_us` and chains a checkpoint that names count and last hash. Never
  // those of an open deployment; the rest has no gap, so the first one that stays keeps all after
  // it. `keep_at_most` > 0: what is older than the newest so many goes too. Returns how many went.
  base::Result<std::int64_t> prune(std::int64_t before_us, const std::string& actor,
                                   std::int64_t keep_at_most = 0);

  // From now on a write waits no longer than this for other writers: after the switch nothing waits
  // for the journal, and what is refused goes to the spool.
  void wait_at_most(base::Milliseconds busy_timeout);

  // What went wrong without making anything fail (audit.head, the spool, the reserve, the group),
  // to be shown to the operator once: taken away by this call.
  std::vector<std::string> take_warnings();

  struct Impl;  // journal_impl.hpp

 private:
  explicit Journal(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// For rollback and recovery, which never wait for the database: appends to the spool (fsynced, the
// reserve is given up first when the disk is full). Whoever opens the journal next imports it, each
// event marked detail.late = true. The row and the states travel with them.
base::Status spool(const Paths& paths, const std::string& node_name,
                   std::span<const EventDraft> events, const DeploymentRow* deployment,
                   const ReleaseRow* release, const AppRow* app);

struct SetAside {
  std::string path;               // of the old database now, "" = there was none
  std::optional<HeadProof> head;  // what audit.head said, if it could be read
};
// A damaged database is moved aside (updagent.db.damaged-TIMESTAMP, its -wal and audit.head with
// it); the next open makes an empty one, which the caller fills from the trees.
base::Result<SetAside> set_damaged_aside(const Paths& paths);

}  // namespace updagent::journal
