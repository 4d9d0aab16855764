// What a caller says is made storable: valid UTF-8, bounded, and JSON that every reader hashes to
// the same bytes. Nothing is refused: an event with a shortened detail beats no event.
#pragma once

#include <string>
#include <string_view>

#include "agent/journal/event.hpp"

namespace updagent::journal {

inline constexpr std::size_t kMaxFieldBytes = 1024;  // versions, names and actors are far shorter
inline constexpr std::size_t kMaxRowFieldBytes = 8192;  // of a deployment row: redacted URL, reason
inline constexpr int kMaxDetailDepth = 8;  // with the spool's own levels within kMaxJsonDepth

// Valid UTF-8 of at most `max_bytes`, cut at a character, with a closing "…" when it was cut.
std::string bounded_text(std::string_view text, std::size_t max_bytes);
EventDraft bounded(EventDraft draft);

}  // namespace updagent::journal
