// What a generation tells by sd_notify.
#include "agent/service/generation.hpp"

namespace updagent::service {
namespace {

using base::Code;
using base::Error;

}  // namespace

void Generation::on_notify(launch::NotifyEvent& event) {
  for (const launch::NotifyComplaint& complaint : event.complaints)
    events_.complaint(*this, complaint.text);
  if (!event.counts) return;
  const launch::NotifyMessage& message = event.message;
  if (message.status) status_text_ = *message.status;
  if (event.main_process && message.main_pid) take_main_process(event);
  store_descriptors(event);
  if (message.watchdog_usec) watchdog_usec_ = message.watchdog_usec;
  if (message.extend_timeout_usec) extend_timeout(*message.extend_timeout_usec);
  if (message.watchdog == launch::WatchdogSign::trigger)
    return fail(Error(Code::probe_failed, run_name() + " reported a failure to its watchdog"));
  if (message.watchdog == launch::WatchdogSign::alive || message.watchdog_usec) arm_watchdog();
  take_lifecycle(message);
  events_.changed(*this);
}

// The one before stays ours to wait for, if we have forked it: nobody else does.
void Generation::take_main_process(launch::NotifyEvent& event) {
  auto identity = launch::identify_process(*event.message.main_pid, event.main_process);
  if (!identity || (process_ && identity->pid == process_->pid() &&
                    identity->start_ticks == process_->identity().start_ticks))
    return;
  const auto said = [this](const base::Status& done) {
    if (!done) events_.complaint(*this, done.error().line());
  };
  process_watch_.reset();
  if (process_ && !forked_) {
    forked_ = std::move(*process_);
    said(watch_forked());
  }
  process_ = launch::ProcessWatch::own(std::move(*identity), std::move(event.main_process));
  said(watch_process());
}

void Generation::hear_earlier(std::vector<launch::NotifyDatagram> earlier) {
  if (!notify_) return;
  notify_->hear_earlier(std::move(earlier), [this](launch::NotifyEvent& event) {
    // Its main process died meanwhile: nothing makes it ready. What it has stored is stored.
    if (!process_) {
      event.message.lifecycle = launch::Lifecycle::unchanged;
      event.message.main_pid.reset();
    }
    on_notify(event);
  });
}

void Generation::take_lifecycle(const launch::NotifyMessage& message) {
  switch (message.lifecycle) {
    case launch::Lifecycle::ready:
      if (life_ == Life::starting && plan_.run.service.ready == release::Ready::notify)
        become_ready();
      break;
    case launch::Lifecycle::stopping:
      // One that serves is started again when it has ended, as after a crash. A candidate must not
      // get one user more: it has failed, and ends in its own time.
      if ((life_ != Life::ready && life_ != Life::starting) || stops_itself_) break;
      stops_itself_ = true;
      status_text_ = "stopping by itself";
      if (role_ == Role::candidate)
        events_.failed(*this, Error(Code::probe_failed, run_name() + " is stopping by itself"));
      break;
    case launch::Lifecycle::reloading:
    case launch::Lifecycle::unchanged:
      break;
  }
}

void Generation::store_descriptors(launch::NotifyEvent& event) {
  const launch::NotifyMessage& message = event.message;
  if (message.store_remove) store_->remove(message.store_name);
  if (!message.store) return;
  for (base::UniqueFd& descriptor : event.descriptors) {
    switch (store_->add(message.store_name, descriptor, message.store_watch)) {
      case launch::Stored::stored:
      case launch::Stored::already:
        break;
      case launch::Stored::refused_full:
        events_.complaint(*this, "FDSTORE: more than " + std::to_string(launch::kMaxStored) +
                                     " descriptors are not kept");
        break;
      case launch::Stored::refused_name:
        events_.complaint(
            *this, "FDSTORE: the name '" + message.store_name + "' is a listener's, or no name");
        break;
    }
  }
}

}  // namespace updagent::service
