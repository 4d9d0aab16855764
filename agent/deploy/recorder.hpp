// Turns what a deployment does into rows: intent before each side effect, the result after. Up to
// the switch a journal that can't be written ends the deployment; from the switch on nothing waits
// for it: what can't be written goes to the spool, and what can't go there to stderr and syslog.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/error.hpp"
#include "agent/deploy/observer.hpp"
#include "agent/deploy/result.hpp"
#include "agent/deploy/state_table.hpp"
#include "agent/journal/journal.hpp"

namespace updagent::deploy {

class Recorder {
 public:
  // `journal` may be null (damaged, locked): everything goes to the spool then.
  Recorder(journal::Journal* journal, journal::Paths paths, std::string node_name,
           journal::DeploymentRow row, Observer& observer);

  journal::DeploymentRow& row() { return row_; }
  const journal::DeploymentRow& row() const { return row_; }
  const std::string& span() const { return span_; }  // of the open stage, for TRACEPARENT

  // From here on the row is stored with every record: the app is known and its lock is held.
  base::Status open();

  // Stores the state, and "stage.started" if the state is a stage.
  base::Status begin(State state);
  // "stage.finished"; written with the next record. `summary` is for people.
  void end(std::string_view status, journal::Json detail, std::string_view summary);
  // An event of its own within the open stage, written with the next record.
  void event(std::string_view name, std::string_view status, journal::Json detail,
             std::int64_t duration_us = -1);
  // Stores the row and what is pending; `release` and `app` in the same transaction.
  base::Status flush(const journal::ReleaseRow* release = nullptr,
                     const journal::AppRow* app = nullptr);
  // "deployment.finished": outcome and reason. The last record.
  base::Status close(Outcome outcome, const std::string& reason, journal::Json detail);

  // Of the events; the row keeps the one who asked for the deployment.
  void set_actor(std::string actor) { actor_ = std::move(actor); }
  // The row is stored already: a recovery goes on with it.
  void reopen() { opened_ = true; }
  // From the switch on.
  void stop_waiting_for_the_journal();
  const std::vector<StageRecord>& stages() const { return stages_; }
  bool spooled() const { return spooled_; }  // something waits for the next writer of the journal

 private:
  journal::EventDraft draft(std::string_view name, std::string_view status) const;
  base::Status record(const journal::ReleaseRow* release, const journal::AppRow* app);

  journal::Journal* journal_;
  journal::Paths paths_;
  std::string node_name_;
  journal::DeploymentRow row_;
  std::string actor_;
  Observer& observer_;
  std::vector<journal::EventDraft> pending_;
  std::vector<StageRecord> stages_;
  std::string span_;
  const Row* stage_ = nullptr;  // open stage
  std::int64_t stage_started_us_ = 0;
  std::int64_t deployment_started_us_;  // monotonic
  bool opened_ = false;
  bool best_effort_ = false;
  bool spooled_ = false;
};

}  // namespace updagent::deploy
