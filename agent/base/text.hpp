// Small text helpers that more than one folder needs: safe display, hex, parsing of numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace updagent::base {

// Control bytes (C0, DEL, C1 as UTF-8), marks that change the direction of text, and line
// separators as \xNN, so that a hostile name or a hook's output can't drive the operator's terminal
// or read as something else. Newline and tab are escaped too unless keep_lines.
std::string printable(std::string_view text, bool keep_lines = false);

bool is_valid_utf8(std::string_view text);
// Invalid sequences become U+FFFD: output of hooks must be storable as JSON.
std::string to_valid_utf8(std::string_view bytes);

std::string to_hex(std::span<const std::uint8_t> bytes);
// Exactly 2n lower- or upper-case hex digits, or nothing.
std::optional<std::vector<std::uint8_t>> from_hex(std::string_view hex);

// Whole string is a decimal number that fits, or nothing. No sign, no spaces.
std::optional<std::uint64_t> parse_u64(std::string_view text);

// "1.4 MiB", "812 B": three significant digits, binary units.
std::string human_bytes(std::uint64_t bytes);
// "5M", "1.5GiB", "200k" (1024-based) to bytes, or nothing.
std::optional<std::uint64_t> parse_bytes(std::string_view text);

// The candidate nearest to `word` within a third of its length, for "did you mean".
std::optional<std::string> nearest(std::string_view word, std::span<const std::string> candidates);

std::string join(std::span<const std::string> parts, std::string_view separator);

}  // namespace updagent::base
