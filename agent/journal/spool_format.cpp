#include "agent/journal/spool_format.hpp"

#include "agent/base/strict_json.hpp"
#include "agent/journal/canonical.hpp"
#include "agent/journal/event_bounds.hpp"

namespace updagent::journal {
namespace {

std::string line_of(std::string_view kind, Json content) {
  return json_text(Json{{std::string(kind), std::move(content)}}) + "\n";
}

Json event_to_json(const EventDraft& draft) {
  const EventDraft event = bounded(draft);
  Json object = row_to_json(event);
  object["detail"] = event.detail;
  return object;
}

bool read_event(const Json& object, SpoolContent& content) {
  EventDraft event;
  if (!row_from_json(object, event)) return false;
  if (const auto detail = object.find("detail"); detail != object.end() && detail->is_object())
    event.detail = *detail;
  content.events.push_back(std::move(event));
  return true;
}

template <class Row>
bool read_one(const Json& object, std::optional<Row>& target) {
  Row row;
  if (!row_from_json(object, row)) return false;
  target = std::move(row);
  return true;
}

bool read_header(const Json& object, SpoolHeader& header) {
  return object.is_object() && from_json(object, "node_name", header.node_name) &&
         from_json(object, "written_us", header.written_us);
}

bool read_line(std::string_view line, SpoolContent& content) {
  const auto parsed = base::parse_strict_json(line, base::Code::damaged, "a line of the spool");
  if (!parsed || !parsed->is_object() || parsed->size() != 1) return false;
  const std::string& kind = parsed->begin().key();
  const Json& object = parsed->begin().value();
  if (kind == "spool") return read_header(object, content.header);
  if (kind == "event") return read_event(object, content);
  if (kind == "deployment") return read_one(object, content.deployment);
  if (kind == "release") return read_one(object, content.release);
  if (kind == "app") return read_one(object, content.app);
  return false;
}

}  // namespace

std::string spool_lines(const SpoolHeader& header, std::span<const EventDraft> events,
                        const Rows& rows) {
  std::string out = line_of("spool", {{"node_name", bounded_text(header.node_name, kMaxFieldBytes)},
                                      {"written_us", header.written_us}});
  for (const EventDraft& event : events) out += line_of("event", event_to_json(event));
  if (rows.deployment != nullptr) out += line_of("deployment", row_to_json(*rows.deployment));
  if (rows.release != nullptr) out += line_of("release", row_to_json(*rows.release));
  if (rows.app != nullptr) out += line_of("app", row_to_json(*rows.app));
  return out;
}

SpoolContent parse_spool(std::string_view text) {
  SpoolContent content;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    // a last line without its end was torn, even if what is there can be parsed
    if (end == std::string_view::npos || !read_line(text.substr(0, end), content))
      ++content.skipped;
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
  }
  return content;
}

}  // namespace updagent::journal
