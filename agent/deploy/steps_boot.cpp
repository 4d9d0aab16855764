// What a boot starts follows what is committed. Nothing of it can fail a deployment that is
// decided.
#include "agent/deploy/engine.hpp"
#include "agent/deploy/unit.hpp"

namespace updagent::deploy {

void Engine::settle_boot() {
  take_off_stop_wish();
  if (!runs_as_unit(context_.layout)) return;
  const bool has = strategy() != Strategy::files;
  // Only where that changes: an operator who disabled the unit meant it.
  if (has == had_service_before()) return;
  const std::string& app = recorder_.row().app;
  const base::Status changed = has ? enable_unit(app) : disable_unit(app);
  journal::Json detail = {{"unit", unit_name(app)}, {"enabled", has}};
  if (!changed) {
    detail["problem"] = changed.error().line();
    observer().warning(changed.error().line() + ": what a boot starts is not what is committed, " +
                       "updagent status tells");
  }
  recorder_.event("boot.changed", changed ? "success" : "failure", std::move(detail));
}

bool Engine::had_service_before() const {
  const std::string before = committed_before();
  if (before.empty()) return false;
  const auto manifest = plan_.store->description(before);
  return manifest &&
         strategy_from_name(manifest->strategy).value_or(Strategy::files) != Strategy::files;
}

// Whoever deploys to a stopped app wants it to run, once the release has proved itself.
void Engine::take_off_stop_wish() {
  if (journal_ == nullptr) return;
  const journal::DeploymentRow& row = recorder_.row();
  auto app = journal_->app(row.app);
  if (!app || !*app || !(*app)->stopped) return;
  const std::string was = "'" + row.app + "' was stopped by " + (*app)->stopped_by + " since " +
                          base::format_rfc3339((*app)->stopped_us);
  journal::EventDraft event;
  event.trace_id = row.trace_id;
  event.span_id = journal::new_span_id();
  event.parent_span_id = row.root_span_id;
  event.app = row.app;
  event.event = "app.started";
  event.status = "success";
  event.timestamp_us = base::wall_now_us();
  event.to_version = row.to_version;
  event.actor = row.actor;
  (*app)->stopped = false;
  (*app)->stopped_by.clear();
  (*app)->stopped_us = 0;
  const base::Status recorded = journal_->wish_stopped(event, **app);
  if (recorded)
    observer().note(was + ": it runs again");
  else
    observer().warning(was + ", and that could not be taken off (" + recorded.error().line() +
                       "): a boot leaves it stopped; updagent start " + row.app);
}

}  // namespace updagent::deploy
