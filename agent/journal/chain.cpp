#include "agent/journal/chain.hpp"

#include "agent/base/strict_json.hpp"
#include "agent/base/text.hpp"
#include "agent/journal/canonical.hpp"
#include "agent/journal/event_bounds.hpp"
#include "agent/journal/rows.hpp"

namespace updagent::journal {
namespace {

using base::Result;
using base::Status;

bool column_fits(const Statement& row, int column, const std::string&) {
  return row.is_text(column);
}
bool column_fits(const Statement& row, int column, std::int64_t) {
  return row.is_integer(column);
}

}  // namespace

std::string event_columns() {
  return column_list<EventDraft>() + ", event_id, node_name, detail, previous, hash";
}

Result<ChainWriter> ChainWriter::start(Database& database, const std::string& node_name) {
  UPD_ASSIGN(const HeadProof newest, newest_event(database));
  UPD_ASSIGN(Statement insert,
             database.prepare("INSERT INTO events (" + event_columns() +
                              ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"));
  return ChainWriter(std::move(insert), newest, bounded_text(node_name, kMaxFieldBytes));
}

Status ChainWriter::append(const EventDraft& draft) {
  Event event{bounded(draft), newest_.count + 1, node_name_, newest_.hash, {}};
  if (event.timestamp_us == 0) event.timestamp_us = base::wall_now_us();
  const std::string detail = json_text(event.detail);
  event.hash = base::sha256(canonical(event, detail));
  const int fields = bind_row(insert_, static_cast<const EventDraft&>(event));
  insert_.bind(fields + 1, event.event_id);
  insert_.bind(fields + 2, std::string_view(event.node_name));
  insert_.bind(fields + 3, std::string_view(detail));
  insert_.bind(fields + 4, event.previous);
  insert_.bind(fields + 5, event.hash);
  UPD_TRY(insert_.run());
  newest_ = {event.event_id, event.hash};
  return base::ok();
}

Result<HeadProof> newest_event(Database& database) {
  UPD_ASSIGN(Statement newest,
             database.prepare("SELECT event_id, hash FROM events ORDER BY event_id DESC LIMIT 1"));
  UPD_ASSIGN(const bool row, newest.next());
  if (!row) return HeadProof{};
  return HeadProof{newest.integer(0), newest.digest(1).value_or(base::Digest{})};
}

Result<std::int64_t> oldest_event_id(Database& database) {
  return database.integer("SELECT event_id FROM events ORDER BY event_id LIMIT 1");
}

Result<std::optional<base::Digest>> hash_of(Database& database, std::int64_t event_id) {
  UPD_ASSIGN(Statement one, database.prepare("SELECT hash FROM events WHERE event_id = ?"));
  one.bind(1, event_id);
  UPD_ASSIGN(const bool row, one.next());
  if (!row) return std::optional<base::Digest>();
  return one.digest(0);
}

StoredEvent read_event(const Statement& row) {
  StoredEvent stored;
  int column = 0;
  each_field(static_cast<EventDraft&>(stored.event), [&](std::string_view, auto& value) {
    stored.types_fit = stored.types_fit && column_fits(row, column, value);
    read_field(row, column++, value);
  });
  stored.event.event_id = row.integer(column);
  stored.event.node_name = row.text(column + 1);
  stored.detail = row.text(column + 2);
  const auto previous = row.digest(column + 3);
  const auto hash = row.digest(column + 4);
  stored.types_fit = stored.types_fit && row.is_text(column + 1) && row.is_text(column + 2) &&
                     previous.has_value() && hash.has_value();
  stored.event.previous = previous.value_or(base::Digest{});
  stored.event.hash = hash.value_or(base::Digest{});
  return stored;
}

base::Digest expected_hash(const StoredEvent& stored) {
  return base::sha256(canonical(stored.event, stored.detail));
}

Event to_event(StoredEvent stored) {
  Event event = std::move(stored.event);
  each_field(static_cast<EventDraft&>(event), [](std::string_view, auto& value) {
    if constexpr (std::is_same_v<std::remove_reference_t<decltype(value)>, std::string>)
      if (!base::is_valid_utf8(value)) value = base::to_valid_utf8(value);
  });
  event.node_name = base::to_valid_utf8(event.node_name);
  auto detail = base::parse_strict_json(stored.detail, base::Code::damaged, "the detail");
  if (detail && detail->is_object()) {
    event.detail = std::move(*detail);
  } else {
    event.detail = Json{{"unreadable", base::to_valid_utf8(stored.detail)}};
  }
  return event;
}

}  // namespace updagent::journal
