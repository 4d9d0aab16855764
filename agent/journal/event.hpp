// One row of the audit log, as it is stored, hashed, printed and documented (docs/audit.md).
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "agent/base/digest.hpp"

namespace updagent::journal {

using Json = nlohmann::json;

// What a caller says; the journal adds event_id and the chain.
struct EventDraft {
  std::string trace_id;        // 32 hex (W3C Trace Context), the deployment's
  std::string span_id;         // 16 hex: one per stage; its started and its end share it
  std::string parent_span_id;  // 16 hex: the deployment's root span, "" on root events
  std::string app;             // "" for events of the node (prune, trust changes)
  std::string event;   // stable name: "deployment.started", "hook.finished" (event_names.hpp)
  std::string stage;   // a stage name of the design, "" outside of one
  std::string phase;   // pre-upgrade, upgrade, post-check, rollback, or ""
  std::string status;  // started, success, failure, skipped
  std::int64_t timestamp_us = 0;  // wall clock, UTC
  std::int64_t duration_us = -1;  // monotonic; -1 where nothing was measured
  std::string from_version;
  std::string to_version;
  std::string actor;  // "uid=0 login=kai", "agent", "guardian", "boot"
  // Bounded when it is recorded; floats and integers past 2^53 become text, so that every reader
  // hashes the same bytes.
  Json detail = Json::object();
};

struct Event : EventDraft {
  std::int64_t event_id = 0;  // 1, 2, 3 ...: its place in the chain, no gaps
  std::string node_name;
  base::Digest previous;  // hash of the event before; zeros for the first
  base::Digest hash;      // SHA-256 over canonical(event)
};

// The bytes that are hashed: one JSON object with sorted keys, no spaces, every field above except
// `hash`; docs/audit.md has the definition and an example that a test recomputes.
std::string canonical(const Event& event);

// As printed by `log --json`: times RFC 3339, duration_ms with three decimals or null.
Json to_json(const Event& event);

std::string new_trace_id();  // 32 hex, never all zero
std::string new_span_id();   // 16 hex

}  // namespace updagent::journal
