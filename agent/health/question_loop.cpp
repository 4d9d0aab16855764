#include "agent/health/question_loop.hpp"

#include <algorithm>
#include <utility>

namespace updagent::health {
namespace {

base::Error curl_error(const char* what) {
  return {base::Code::internal, std::string("the probes can't be asked: libcurl: ") + what};
}

}  // namespace

base::Result<QuestionLoop> QuestionLoop::make(const ProbeContext& context) {
  // counted by libcurl; its end is the end of the process
  static const CURLcode kReady = curl_global_init(CURL_GLOBAL_DEFAULT);
  std::unique_ptr<CURLM, MultiFree> multi(kReady == CURLE_OK ? curl_multi_init() : nullptr);
  if (!multi) return curl_error("no memory");
  return QuestionLoop(context, std::move(multi));
}

std::size_t QuestionLoop::add(Start start, bool is_steered) {
  Slot& slot = slots_.emplace_back();
  slot.start = std::move(start);
  slot.is_steered = is_steered;
  return slots_.size() - 1;
}

void QuestionLoop::ask(std::size_t index, std::int64_t at_us) {
  slots_[index].run.reset();
  slots_[index].due_us = at_us;
}

base::Result<std::vector<QuestionLoop::Answer>> QuestionLoop::step(base::Milliseconds at_most) {
  UPD_TRY(start_due());
  std::vector<Answer> answers = take_answers();  // what could not even start
  if (!answers.empty()) return answers;
  UPD_TRY(wait(at_most));
  UPD_TRY(end_transfers());
  return take_answers();
}

int QuestionLoop::steered() const {
  return static_cast<int>(
      std::ranges::count_if(slots_, [](const Slot& slot) { return slot.run && slot.is_steered; }));
}

// The one that has waited longest, of those that may start.
QuestionLoop::Slot* QuestionLoop::next_due(std::int64_t now_us) {
  const bool has_room = steered() < kMaxSteered;
  Slot* next = nullptr;
  for (Slot& slot : slots_) {
    if (!slot.due_us || *slot.due_us > now_us || (slot.is_steered && !has_room)) continue;
    if (next == nullptr || *slot.due_us < *next->due_us) next = &slot;
  }
  return next;
}

base::Status QuestionLoop::start_due() {
  const std::int64_t now_us = base::monotonic_now_us();
  while (Slot* slot = next_due(now_us)) {
    slot->due_us.reset();
    slot->started_us = base::monotonic_now_us();
    UPD_ASSIGN(slot->run, slot->start(multi_.get()));
  }
  return base::ok();
}

base::Milliseconds QuestionLoop::time_to_wait(base::Milliseconds at_most) const {
  std::int64_t left_ms = std::clamp<std::int64_t>(at_most.count(), 0, INT32_MAX);
  const bool has_room = steered() < kMaxSteered;
  const std::int64_t now_us = base::monotonic_now_us();
  for (const Slot& slot : slots_) {
    if (slot.run) {
      if (const auto again = slot.run->look_again()) left_ms = std::min(left_ms, again->count());
    } else if (slot.due_us && (has_room || !slot.is_steered)) {
      // rounded up: waking half a millisecond early would spin
      left_ms = std::clamp<std::int64_t>((*slot.due_us - now_us + 999) / 1000, 0, left_ms);
    }
  }
  return base::Milliseconds(left_ms);
}

// First what is served, in its order.
std::vector<curl_waitfd> QuestionLoop::others() const {
  std::vector<curl_waitfd> others;
  others.reserve(context_->served.size() + slots_.size() + 1);
  for (const Served& served : context_->served) others.push_back({served.fd, CURL_WAIT_POLLIN, 0});
  const auto add = [&](int fd) {
    if (fd >= 0) others.push_back({fd, CURL_WAIT_POLLIN, 0});
  };
  if (context_->interrupt != nullptr) add(context_->interrupt->fd());
  for (const Slot& slot : slots_)
    if (slot.run) add(slot.run->event_fd());
  return others;
}

base::Status QuestionLoop::wait(base::Milliseconds at_most) {
  std::vector<curl_waitfd> fds = others();
  // knows curl's own descriptors and timers too
  const CURLMcode code = curl_multi_poll(multi_.get(), fds.empty() ? nullptr : fds.data(),
                                         static_cast<unsigned>(fds.size()),
                                         static_cast<int>(time_to_wait(at_most).count()), nullptr);
  if (code != CURLM_OK) return curl_error(curl_multi_strerror(code));
  for (std::size_t i = 0; i < context_->served.size(); ++i)
    if (fds[i].revents != 0) context_->served[i].on_event();
  return base::ok();
}

base::Status QuestionLoop::end_transfers() {
  int running = 0;
  const CURLMcode code = curl_multi_perform(multi_.get(), &running);
  if (code != CURLM_OK) return curl_error(curl_multi_strerror(code));
  int queued = 0;
  while (const CURLMsg* message = curl_multi_info_read(multi_.get(), &queued)) {
    if (message->msg != CURLMSG_DONE) continue;
    void* transfer = nullptr;
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
    static_cast<Transfer*>(transfer)->end(message->data.result);
  }
  return base::ok();
}

std::vector<QuestionLoop::Answer> QuestionLoop::take_answers() {
  std::vector<Answer> answers;
  const std::int64_t now_us = base::monotonic_now_us();
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    std::optional<Finding> finding = slot.run ? slot.run->look() : std::nullopt;
    if (!finding) continue;
    answers.push_back({i, std::move(*finding), slot.started_us, now_us - slot.started_us});
    slot.run.reset();
  }
  return answers;
}

}  // namespace updagent::health
