#include "agent/health/probe_loop.hpp"

#include <algorithm>
#include <utility>

namespace updagent::health {
namespace {

base::Error curl_error(const char* what) {
  return {base::Code::internal, std::string("the probes can't be asked: libcurl: ") + what};
}

}  // namespace

base::Result<ProbeLoop> ProbeLoop::make(std::span<const release::Probe> probes,
                                        const ProbeContext& context, bool with_initial_delay) {
  // counted by libcurl; its end is the end of the process
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  std::unique_ptr<CURLM, MultiFree> multi(ready == CURLE_OK ? curl_multi_init() : nullptr);
  if (!multi) return curl_error("no memory");
  ProbeLoop loop(context, std::move(multi));
  const std::int64_t now_us = base::monotonic_now_us();
  for (const release::Probe& probe : probes) {
    Slot slot;
    slot.probe = &probe;
    slot.due_us = now_us + (with_initial_delay ? probe.initial_delay.count() * 1000 : 0);
    loop.slots_.push_back(std::move(slot));
  }
  return loop;
}

base::Result<std::vector<ProbeLoop::Answer>> ProbeLoop::step(base::Milliseconds at_most) {
  UPD_TRY(start_due());
  std::vector<Answer> answers = take_answers();  // what could not even start
  if (!answers.empty()) return answers;
  UPD_TRY(wait(at_most));
  UPD_TRY(end_transfers());
  return take_answers();
}

base::Status ProbeLoop::start_due() {
  for (Slot& slot : slots_) {
    const std::int64_t now_us = base::monotonic_now_us();
    if (slot.run || slot.due_us > now_us) continue;
    slot.started_us = now_us;
    UPD_ASSIGN(slot.run, start(*slot.probe));
  }
  return base::ok();
}

StartedRun ProbeLoop::start(const release::Probe& probe) const {
  switch (probe.type) {
    case release::ProbeType::http:
      return start_http(probe, *context_, multi_.get());
    case release::ProbeType::tcp:
      return start_tcp(probe, *context_, multi_.get());
    case release::ProbeType::exec:
      return start_exec(probe, *context_);
  }
  return base::Error(base::Code::internal, "a probe of an unknown type");
}

base::Status ProbeLoop::wait(base::Milliseconds at_most) {
  std::vector<curl_waitfd> others;
  const auto add = [&](int fd) {
    if (fd >= 0) others.push_back({fd, CURL_WAIT_POLLIN, 0});
  };
  if (context_->interrupt != nullptr) add(context_->interrupt->fd());
  std::int64_t left_ms = std::clamp<std::int64_t>(at_most.count(), 0, INT32_MAX);
  const std::int64_t now_us = base::monotonic_now_us();
  for (const Slot& slot : slots_) {
    if (slot.run) {
      add(slot.run->event_fd());
      if (const auto again = slot.run->look_again()) left_ms = std::min(left_ms, again->count());
    } else {
      // rounded up: waking half a millisecond early would spin
      left_ms = std::clamp<std::int64_t>((slot.due_us - now_us + 999) / 1000, 0, left_ms);
    }
  }
  // knows curl's own descriptors and timers too
  const CURLMcode code =
      curl_multi_poll(multi_.get(), others.empty() ? nullptr : others.data(),
                      static_cast<unsigned>(others.size()), static_cast<int>(left_ms), nullptr);
  if (code != CURLM_OK) return curl_error(curl_multi_strerror(code));
  return base::ok();
}

base::Status ProbeLoop::end_transfers() {
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

std::vector<ProbeLoop::Answer> ProbeLoop::take_answers() {
  std::vector<Answer> answers;
  const std::int64_t now_us = base::monotonic_now_us();
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    std::optional<Finding> finding = slot.run ? slot.run->look() : std::nullopt;
    if (!finding) continue;
    answers.push_back({i, std::move(*finding), now_us - slot.started_us});
    slot.run.reset();
    const base::Milliseconds interval = std::max(slot.probe->interval, kMinInterval);
    slot.due_us = std::max(slot.started_us + interval.count() * 1000, now_us);
  }
  return answers;
}

}  // namespace updagent::health
