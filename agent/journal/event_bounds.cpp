#include "agent/journal/event_bounds.hpp"

#include <array>
#include <utility>

#include "agent/base/strict_json.hpp"
#include "agent/base/text.hpp"
#include "agent/journal/canonical.hpp"
#include "agent/journal/journal.hpp"

namespace updagent::journal {
namespace {

constexpr std::string_view kCut = "…";
constexpr std::size_t kMaxKeyBytes = 256;

// Floats and integers past 2^53 differ from reader to reader: they are stored as text.
Json cleaned_number(Json value) {
  if (value.is_number_float()) return json_text(value);
  const bool too_large =
      value.is_number_unsigned()
          ? value.get<std::uint64_t>() > static_cast<std::uint64_t>(base::kMaxJsonInteger)
          : value.get<std::int64_t>() < -base::kMaxJsonInteger ||
                value.get<std::int64_t>() > base::kMaxJsonInteger;
  if (too_large) return json_text(value);
  return value;
}

Json cleaned(Json value, int depth) {
  if (value.is_string()) return base::to_valid_utf8(value.get_ref<const std::string&>());
  if (value.is_number()) return cleaned_number(std::move(value));
  if (value.is_boolean() || value.is_null()) return value;
  if (value.is_binary() || value.is_discarded() || depth == kMaxDetailDepth)
    return std::string(kCut);
  if (value.is_array()) {
    for (Json& item : value) item = cleaned(std::move(item), depth + 1);
    return value;
  }
  Json object = Json::object();
  for (auto& [key, item] : value.items())
    object[bounded_text(key, kMaxKeyBytes)] = cleaned(std::move(item), depth + 1);
  return object;
}

// Of valid UTF-8.
void cut(std::string& text, std::size_t max_bytes) {
  if (text.size() <= max_bytes) return;
  std::size_t end = max_bytes > kCut.size() ? max_bytes - kCut.size() : 0;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  text.resize(end);
  if (max_bytes >= kCut.size()) text += kCut;
}

void cut_strings(Json& value, std::size_t max_bytes) {
  if (value.is_string()) {
    cut(value.get_ref<std::string&>(), max_bytes);
  } else if (value.is_structured()) {
    for (Json& item : value) cut_strings(item, max_bytes);
  }
}

bool fits(const Json& detail) {
  return json_text(detail).size() <= kMaxDetailBytes;
}

Json cut_to(const Json& detail, std::size_t max_bytes) {
  Json copy = detail;
  cut_strings(copy, max_bytes);
  copy["truncated"] = true;
  return copy;
}

// About the longest length of a string with which all of it fits: so only the longest ones are cut.
Json shortened(Json detail) {
  constexpr std::size_t kStep = 1024;    // near enough: each try copies and prints all of it
  cut_strings(detail, kMaxDetailBytes);  // no string alone is longer
  Json best = cut_to(detail, 0);
  if (!fits(best)) return Json{{"truncated", true}};  // too many keys or numbers
  std::size_t low = 0;
  std::size_t high = kMaxDetailBytes / kStep;
  while (low < high) {
    const std::size_t middle = low + (high - low + 1) / 2;
    Json tried = cut_to(detail, middle * kStep);
    if (fits(tried)) {
      low = middle;
      best = std::move(tried);
    } else {
      high = middle - 1;
    }
  }
  return best;
}

}  // namespace

std::string bounded_text(std::string_view text, std::size_t max_bytes) {
  std::string valid = base::to_valid_utf8(text);
  cut(valid, max_bytes);
  return valid;
}

EventDraft bounded(EventDraft draft) {
  for (std::string* field : {&draft.trace_id, &draft.span_id, &draft.parent_span_id, &draft.app,
                             &draft.event, &draft.stage, &draft.phase, &draft.status,
                             &draft.from_version, &draft.to_version, &draft.actor})
    *field = bounded_text(*field, kMaxFieldBytes);
  if (!draft.detail.is_object()) {
    Json value = std::move(draft.detail);
    draft.detail = Json::object();
    if (!value.is_null()) draft.detail["value"] = std::move(value);
  }
  draft.detail = cleaned(std::move(draft.detail), 0);
  if (!fits(draft.detail)) draft.detail = shortened(std::move(draft.detail));
  return draft;
}

}  // namespace updagent::journal
