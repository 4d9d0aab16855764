#include "agent/release/placeholders.hpp"

#include <array>
#include <utility>

#include "agent/base/text.hpp"
#include "agent/release/describe.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Error;
using base::Result;

constexpr std::array<std::pair<std::string_view, Placeholder>, 9> kPlaceholders = {{
    {"release", Placeholder::release},
    {"version", Placeholder::version},
    {"generation", Placeholder::generation},
    {"runtime_dir", Placeholder::runtime_dir},
    {"data", Placeholder::data},
    {"fd", Placeholder::fd},
    {"address", Placeholder::address},
    {"host", Placeholder::host},
    {"port", Placeholder::port},
}};

bool is_lower(char c) {
  return c >= 'a' && c <= 'z';
}

Error unknown(std::string_view got, std::string_view name, const std::string& place, Code code) {
  std::vector<std::string> names;
  std::vector<std::string> shown;
  for (const auto& [known, what] : kPlaceholders) {
    names.emplace_back(known);
    shown.push_back('{' + names.back() + (is_of_a_listener(what) ? ":NAME}" : "}"));
  }
  Error error = Error(code, place + " has a placeholder that is none")
                    .expected("one of " + base::join(shown, " ") + ", or '{{' for a brace")
                    .got(in_quotes(got));
  const auto near = base::nearest(name, names);
  return near ? std::move(error).hint("did you mean '" + *near + "'?") : error;
}

// `text` begins with '{' and a lower-case letter.
Result<std::pair<TemplatePart, std::size_t>> parse_one(std::string_view text,
                                                       const std::string& place, Code code) {
  const std::size_t close = text.find('}');
  const std::string_view inner =
      text.substr(1, close == std::string_view::npos ? close : close - 1);
  const std::size_t colon = inner.find(':');
  const std::string_view name = inner.substr(0, colon);
  if (close != std::string_view::npos) {
    for (const auto& [known, what] : kPlaceholders) {
      if (known != name || is_of_a_listener(what) != (colon != std::string_view::npos)) continue;
      TemplatePart part{.literal = {}, .placeholder = what, .listener = {}};
      if (colon != std::string_view::npos) part.listener = inner.substr(colon + 1);
      return std::pair(std::move(part), close + 1);
    }
  }
  return unknown(text.substr(0, close == std::string_view::npos ? close : close + 1), name, place,
                 code);
}

}  // namespace

std::string_view placeholder_name(Placeholder what) {
  for (const auto& [name, known] : kPlaceholders)
    if (known == what) return name;
  return "";
}

Result<std::vector<TemplatePart>> parse_template(std::string_view text, const std::string& place,
                                                 Code code) {
  std::vector<TemplatePart> parts;
  std::string literal;
  while (!text.empty()) {
    const bool is_escape = text.starts_with("{{");
    if (is_escape || text[0] != '{' || text.size() < 2 || !is_lower(text[1])) {
      literal += text[0];
      text.remove_prefix(is_escape ? 2 : 1);
      continue;
    }
    UPD_ASSIGN(auto one, parse_one(text, place, code));
    if (!literal.empty())
      parts.push_back({.literal = std::exchange(literal, {}), .placeholder = {}, .listener = {}});
    parts.push_back(std::move(one.first));
    text.remove_prefix(one.second);
  }
  if (!literal.empty())
    parts.push_back({.literal = std::move(literal), .placeholder = {}, .listener = {}});
  return parts;
}

Result<std::string> expand_template(std::string_view text, const std::string& place, Code code,
                                    const PlaceholderValue& value) {
  UPD_ASSIGN(const std::vector<TemplatePart> parts, parse_template(text, place, code));
  std::string out;
  for (const TemplatePart& part : parts) {
    if (!part.placeholder) {
      out += part.literal;
      continue;
    }
    const auto filled = value(*part.placeholder, part.listener);
    if (!filled)
      return Error(code, place + " has a placeholder without a value")
          .expected("one that is known here")
          .got(in_quotes(placeholder_name(*part.placeholder)) +
               (part.listener.empty() ? "" : " of listener " + in_quotes(part.listener)));
    out += *filled;
  }
  return out;
}

std::string escape_template(std::string_view literal) {
  std::string out;
  for (const char c : literal) out.append(c == '{' ? 2 : 1, c);
  return out;
}

}  // namespace updagent::release
