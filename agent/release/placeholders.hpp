// Placeholders in the texts of [service]: "{data}/cache", "--port={port:http}". What stands in
// braces is lower-case letters; "{{" is a brace, and any other brace is itself, so JSON needs no
// escaping.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/error.hpp"

namespace updagent::release {

enum class Placeholder : std::uint8_t {
  release,      // {release}: the release's folder
  version,      // {version}
  generation,   // {generation}: counts up for ever
  runtime_dir,  // {runtime_dir}: a folder of this generation alone
  data,         // {data}: the folder that all releases share
  // of one listener
  fd,       // {fd:NAME}: the descriptor's number
  address,  // {address:NAME}: "0.0.0.0:8080", "[::]:8080", "/run/shop/http", "@shop"
  host,     // {host:NAME}: "0.0.0.0", "::"
  port,     // {port:NAME}: "8080"
};

constexpr bool is_of_a_listener(Placeholder what) {
  return what >= Placeholder::fd;
}
std::string_view placeholder_name(Placeholder what);

struct TemplatePart {
  std::string literal;  // when there is no placeholder
  std::optional<Placeholder> placeholder;
  std::string listener;  // of those that have one
};

// In order. `place` and `code` are for the refusal of a name in braces that is none.
base::Result<std::vector<TemplatePart>> parse_template(std::string_view text,
                                                       const std::string& place, base::Code code);

// Asked for each placeholder; nothing when it has no value here.
using PlaceholderValue =
    std::function<std::optional<std::string>(Placeholder what, const std::string& listener)>;
base::Result<std::string> expand_template(std::string_view text, const std::string& place,
                                          base::Code code, const PlaceholderValue& value);

// A text that expands to `literal`, whatever it has in braces.
std::string escape_template(std::string_view literal);

}  // namespace updagent::release
