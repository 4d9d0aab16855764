#include "agent/service/event_spool.hpp"

#include <syslog.h>
#include <unistd.h>

#include <array>

#include "agent/base/clock.hpp"
#include "agent/base/files.hpp"
#include "agent/base/random.hpp"
#include "agent/base/text.hpp"
#include "agent/service/state_file.hpp"

namespace updagent::service {
namespace {

using base::Json;

// Listing the folder for each event would cost more than the event.
constexpr std::size_t kCountEvery = 50;
constexpr std::size_t kTraceBytes = 16;
constexpr std::size_t kSpanBytes = 8;

std::string random_id(std::size_t bytes) {
  const std::string random = base::random_bytes(bytes);
  return base::to_hex({reinterpret_cast<const std::uint8_t*>(random.data()), random.size()});
}

}  // namespace

EventSpool::EventSpool(std::string folder, std::string app)
    : folder_(std::move(folder)), app_(std::move(app)) {}

bool EventSpool::room() {
  if (since_count_++ % kCountEvery == 0) {
    const auto names = base::list_directory(folder_, kMaxWaitingEvents + kCountEvery);
    full_ = !names || names->size() >= kMaxWaitingEvents;
  }
  return !full_;
}

void EventSpool::append(const SpooledEvent& event) {
  const std::int64_t now_us = base::wall_now_us();
  const Json header = {{"spool", {{"node_name", ""}, {"written_us", now_us}}}};
  const Json body = {
      {"event",
       {{"trace_id", event.trace_id.empty() ? random_id(kTraceBytes) : event.trace_id},
        {"span_id", random_id(kSpanBytes)},
        {"parent_span_id", ""},
        {"app", app_},
        {"event", event.name},
        {"stage", ""},
        {"phase", ""},
        {"status", event.status},
        {"timestamp_us", now_us},
        {"duration_us", -1},
        {"from_version", event.from_version},
        {"to_version", event.to_version},
        {"actor", "supervisor"},
        {"detail", event.detail}}}};
  const auto text = [](const Json& json) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  };
  // sorts by time, also over a restart of ours
  const std::string name = std::to_string(now_us) + "-" + std::to_string(::getpid()) + "-" +
                           std::to_string(number_++) + ".jsonl";
  base::Status written = base::make_directories(folder_, 0700);
  if (written && !room())
    written = base::Error(base::Code::no_space, "too many events wait for the journal");
  if (written) written = replace_file(folder_ + "/" + name, text(header) + text(body));
  if (!written)
    ::syslog(LOG_WARNING, "updagent: unrecorded (%s): %s", written.error().line().c_str(),
             text(body).c_str());
}

}  // namespace updagent::service
