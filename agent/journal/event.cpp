#include "agent/journal/event.hpp"

#include <span>

#include "agent/base/clock.hpp"
#include "agent/base/random.hpp"
#include "agent/base/text.hpp"
#include "agent/journal/canonical.hpp"

namespace updagent::journal {
namespace {

constexpr std::size_t kTraceIdBytes = 16;
constexpr std::size_t kSpanIdBytes = 8;

// All zeros mean "no trace" in W3C Trace Context.
std::string random_id(std::size_t bytes) {
  for (;;) {
    const std::string raw = base::random_bytes(bytes);
    if (raw.find_first_not_of('\0') == std::string::npos) continue;
    return base::to_hex(std::span(reinterpret_cast<const std::uint8_t*>(raw.data()), raw.size()));
  }
}

}  // namespace

std::string json_text(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string canonical(const Event& event, std::string_view detail) {
  std::string out;
  const auto raw = [&out](std::string_view name, std::string_view value) {
    out += out.empty() ? "{\"" : ",\"";
    out.append(name).append("\":").append(value);
  };
  const auto text = [&raw](std::string_view name, const std::string& value) {
    raw(name, json_text(Json(value)));
  };
  const auto number = [&raw](std::string_view name, std::int64_t value) {
    raw(name, std::to_string(value));
  };
  // sorted by name: any JSON library with sorted keys and no spaces gives the same bytes
  text("actor", event.actor);
  text("app", event.app);
  raw("detail", detail);
  number("duration_us", event.duration_us);
  text("event", event.event);
  number("event_id", event.event_id);
  text("from_version", event.from_version);
  text("node_name", event.node_name);
  text("parent_span_id", event.parent_span_id);
  text("phase", event.phase);
  text("previous", event.previous.hex());
  text("span_id", event.span_id);
  text("stage", event.stage);
  text("status", event.status);
  number("timestamp_us", event.timestamp_us);
  text("to_version", event.to_version);
  text("trace_id", event.trace_id);
  out += '}';
  return out;
}

std::string canonical(const Event& event) {
  return canonical(event, json_text(event.detail));
}

Json to_json(const Event& event) {
  return Json{
      {"event_id", event.event_id},
      {"trace_id", event.trace_id},
      {"span_id", event.span_id},
      {"parent_span_id", event.parent_span_id},
      {"node_name", event.node_name},
      {"app", event.app},
      {"event", event.event},
      {"stage", event.stage},
      {"phase", event.phase},
      {"status", event.status},
      {"timestamp", base::format_rfc3339(event.timestamp_us)},
      {"duration_ms",
       event.duration_us < 0 ? Json(nullptr) : Json(static_cast<double>(event.duration_us) / 1000)},
      {"from_version", event.from_version},
      {"to_version", event.to_version},
      {"actor", event.actor},
      {"detail", event.detail},
      {"previous", event.previous.hex()},
      {"hash", event.hash.hex()},
  };
}

std::string new_trace_id() {
  return random_id(kTraceIdBytes);
}
std::string new_span_id() {
  return random_id(kSpanIdBytes);
}

}  // namespace updagent::journal
