#include "agent/deploy/recorder.hpp"

#include <syslog.h>

#include "agent/base/clock.hpp"
#include "agent/base/text.hpp"

namespace updagent::deploy {

Recorder::Recorder(journal::Journal* journal, journal::Paths paths, std::string node_name,
                   journal::DeploymentRow row, Observer& observer)
    : journal_(journal),
      paths_(std::move(paths)),
      node_name_(std::move(node_name)),
      row_(std::move(row)),
      actor_(row_.actor),
      observer_(observer),
      deployment_started_us_(base::monotonic_now_us()) {}

journal::EventDraft Recorder::draft(std::string_view name, std::string_view status) const {
  journal::EventDraft event;
  event.trace_id = row_.trace_id;
  event.span_id = stage_ != nullptr ? span_ : row_.root_span_id;
  if (stage_ != nullptr) event.parent_span_id = row_.root_span_id;
  event.app = row_.app;
  event.event = name;
  if (stage_ != nullptr) {
    event.stage = stage_->stage;
    event.phase = stage_->phase;
  }
  event.status = status;
  event.timestamp_us = base::wall_now_us();
  event.from_version = row_.from_version;
  event.to_version = row_.to_version;
  event.actor = actor_;
  return event;
}

base::Status Recorder::open() {
  // What happened before the app was known (fetch, verify) is told under its name.
  for (journal::EventDraft& event : pending_) {
    event.app = row_.app;
    event.from_version = row_.from_version;
    event.to_version = row_.to_version;
  }
  journal::EventDraft started = draft("deployment.started", "started");
  started.span_id = row_.root_span_id;
  started.parent_span_id.clear();
  started.stage.clear();
  started.phase.clear();
  started.timestamp_us = row_.started_us;
  started.detail = {{"kind", row_.kind}, {"source", row_.source}};
  pending_.insert(pending_.begin(), std::move(started));
  opened_ = true;
  observer_.started(row_.trace_id, row_.app, row_.from_version, row_.to_version);
  return record(nullptr, nullptr);
}

void Recorder::stop_waiting_for_the_journal() {
  // Long enough for a neighbour's transaction, short enough for users who wait for the way back.
  constexpr base::Milliseconds kBriefly{500};
  best_effort_ = true;
  if (journal_ != nullptr) journal_->wait_at_most(kBriefly);
}

base::Status Recorder::begin(State state) {
  const Row& row = row_of(state);
  row_.state = state_name(state);
  stage_ = row.stage.empty() ? nullptr : &row;
  span_ = row_.root_span_id;
  if (stage_ != nullptr) {
    span_ = journal::new_span_id();
    stage_started_us_ = base::monotonic_now_us();
    pending_.push_back(draft("stage.started", "started"));
    stages_.push_back({std::string(row.stage), std::string(row.phase), "started",
                       pending_.back().timestamp_us, 0});
    observer_.stage_started(row.stage);
  }
  return opened_ ? record(nullptr, nullptr) : base::ok();
}

void Recorder::end(std::string_view status, journal::Json detail, std::string_view summary) {
  if (stage_ == nullptr) return;
  journal::EventDraft finished = draft("stage.finished", status);
  finished.duration_us = base::monotonic_now_us() - stage_started_us_;
  finished.detail = std::move(detail);
  stages_.back().status = status;
  stages_.back().duration_us = finished.duration_us;
  observer_.stage_finished(stage_->stage, status, finished.duration_us, summary);
  pending_.push_back(std::move(finished));
  stage_ = nullptr;
}

void Recorder::event(std::string_view name, std::string_view status, journal::Json detail,
                     std::int64_t duration_us) {
  journal::EventDraft event = draft(name, status);
  event.detail = std::move(detail);
  event.duration_us = duration_us;
  pending_.push_back(std::move(event));
}

base::Status Recorder::flush(const journal::ReleaseRow* release, const journal::AppRow* app) {
  return record(release, app);
}

base::Status Recorder::close(Outcome outcome, const std::string& reason, journal::Json detail) {
  stage_ = nullptr;
  row_.state = state_name(State::closed);
  row_.outcome = outcome_name(outcome);
  row_.reason = reason;
  row_.ended_us = base::wall_now_us();
  if (!opened_) {
    journal::EventDraft started = draft("deployment.started", "started");
    started.timestamp_us = row_.started_us;
    started.detail = {{"kind", row_.kind}, {"source", row_.source}};
    pending_.insert(pending_.begin(), std::move(started));
  }
  const bool good = outcome == Outcome::committed || outcome == Outcome::unchanged ||
                    (outcome == Outcome::rolled_back && row_.kind == "rollback");
  journal::EventDraft finished = draft("deployment.finished", good ? "success" : "failure");
  finished.duration_us = base::monotonic_now_us() - deployment_started_us_;
  finished.detail = std::move(detail);
  finished.detail["outcome"] = row_.outcome;
  finished.detail["reason"] = reason;
  pending_.push_back(std::move(finished));
  return record(nullptr, nullptr);
}

base::Status Recorder::record(const journal::ReleaseRow* release, const journal::AppRow* app) {
  const journal::DeploymentRow* row = opened_ ? &row_ : nullptr;
  base::Status written = base::ok();
  if (journal_ != nullptr) {
    written = journal_->record(pending_, row, release, app);
    if (written) {
      pending_.clear();
      return written;
    }
    if (!best_effort_) return written;
    observer_.warning("the journal can't be written (" + written.error().line() +
                      "): going on, events wait in " + paths_.spool);
    // No second wait for it in this deployment: the order of the events stays, too.
    journal_ = nullptr;
  }
  const base::Status spooled = journal::spool(paths_, node_name_, pending_, row, release, app);
  spooled_ = spooled_ || spooled.has_value();
  if (!spooled) {
    for (const journal::EventDraft& event : pending_)
      ::syslog(LOG_ERR,
               "updagent: unrecorded: trace=%s app=%s event=%s stage=%s status=%s detail=%s",
               event.trace_id.c_str(), event.app.c_str(), event.event.c_str(), event.stage.c_str(),
               event.status.c_str(),
               event.detail.dump(-1, ' ', false, journal::Json::error_handler_t::replace).c_str());
    observer_.warning("events could not be stored anywhere (" + spooled.error().line() +
                      "): they are in syslog");
  }
  pending_.clear();
  return best_effort_ ? base::ok() : spooled;
}

}  // namespace updagent::deploy
