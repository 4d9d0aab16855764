#include "agent/release/checks.hpp"

#include <algorithm>

#include "agent/base/text.hpp"
#include "agent/release/describe.hpp"
#include "agent/release/fields.hpp"

namespace updagent::release {
namespace {

using base::Error;
using base::Milliseconds;
using base::ok;
using base::Status;

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

}  // namespace

bool is_plain_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxNameLength && name[0] != '-' && name[0] != '.' &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return is_letter(c) || is_digit(c) || c == '_' || c == '-' || c == '.';
         });
}

bool is_variable_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxNameLength * 2 && !is_digit(name[0]) &&
         std::all_of(name.begin(), name.end(),
                     [](char c) { return is_letter(c) || is_digit(c) || c == '_'; });
}

bool is_user_name(std::string_view name) {
  return is_plain_name(name) && (is_letter(name[0]) || name[0] == '_');
}

bool has_control(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
}

Error Checks::wrong(const std::string& place, std::string expected, std::string got) const {
  return Error(dialect_.code, place + " is not valid")
      .expected(std::move(expected))
      .got(std::move(got));
}

Status Checks::label(const std::string& place, std::string_view value) const {
  UPD_TRY(text(place, value));
  if (value.size() > kMaxLabelBytes)
    return wrong(place, "at most " + std::to_string(kMaxLabelBytes) + " bytes",
                 std::to_string(value.size()));
  if (has_control(value)) return wrong(place, "one line without control bytes", in_quotes(value));
  return ok();
}

Status Checks::text(const std::string& place, std::string_view value) const {
  if (value.size() > kMaxStringBytes)
    return wrong(place, "at most " + std::to_string(kMaxStringBytes) + " bytes",
                 std::to_string(value.size()));
  if (!base::is_valid_utf8(value)) return wrong(place, "UTF-8", in_quotes(value));
  if (value.find('\0') != std::string_view::npos) return wrong(place, "no NUL", "one");
  return ok();
}

Status Checks::plain_name(const std::string& place, std::string_view value) const {
  if (is_plain_name(value)) return ok();
  return wrong(place,
               "1 to " + std::to_string(kMaxNameLength) + " letters, digits, '.', '_' and '-'",
               in_quotes(value));
}

Status Checks::number(const std::string& place, std::int64_t value, std::int64_t low,
                      std::int64_t high) const {
  if (value >= low && value <= high) return ok();
  return wrong(place, std::to_string(low) + " to " + std::to_string(high), std::to_string(value));
}

Status Checks::span(const std::string& place, Milliseconds value, Milliseconds shortest) const {
  if (value >= shortest && value <= kLongestSpan) return ok();
  return wrong(place, std::to_string(shortest.count()) + " ms to 24 h",
               std::to_string(value.count()) + " ms");
}

Status Checks::argv(const std::string& place, const std::vector<std::string>& argv) const {
  if (argv.empty() || argv.size() > kMaxCommandWords)
    return wrong(place, "1 to " + std::to_string(kMaxCommandWords) + " words",
                 std::to_string(argv.size()));
  if (argv[0].empty()) return wrong(place_of(place, std::size_t{0}), "a program", "''");
  for (std::size_t i = 0; i < argv.size(); ++i) UPD_TRY(text(place_of(place, i), argv[i]));
  return ok();
}

Status Checks::variables(const std::string& place,
                         const std::vector<std::pair<std::string, std::string>>& variables) const {
  if (variables.size() > kMaxEnvironment)
    return wrong(place, "at most " + std::to_string(kMaxEnvironment) + " variables",
                 std::to_string(variables.size()));
  std::string_view last;
  for (const auto& [name, value] : variables) {
    if (!is_variable_name(name))
      return wrong(place, "names of letters, digits and '_', no digit first", in_quotes(name));
    if (name <= last) return wrong(place, "sorted names, each once", in_quotes(name));
    UPD_TRY(text(place_of(place, name), value));
    last = name;
  }
  return ok();
}

}  // namespace updagent::release
