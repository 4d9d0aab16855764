#include "agent/config/environment_file.hpp"

#include <algorithm>
#include <string_view>

#include "agent/base/guarded_file.hpp"
#include "agent/base/text.hpp"

namespace updagent::config {
namespace {

using base::Code;
using base::Error;
using base::Result;
using Variable = std::pair<std::string, std::string>;

constexpr std::string_view kSpaces = " \t\r";

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(kSpaces);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpaces) - first + 1);
}

bool is_name(std::string_view name) {
  return !name.empty() && (name.front() < '0' || name.front() > '9') &&
         name.find_first_not_of(
             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") ==
             std::string_view::npos;
}

// One line at a time; its text is a secret and never part of an error.
class Line {
 public:
  Line(const std::string& file, std::size_t number, std::string_view text)
      : file_(file), number_(number), text_(trimmed(text)) {}

  bool is_blank() const { return text_.empty() || text_.front() == '#' || text_.front() == ';'; }

  Result<Variable> variable() const {
    const std::size_t equals = text_.find('=');
    if (equals == std::string_view::npos) return wrong("has no '='");
    const std::string_view name = trimmed(text_.substr(0, equals));
    if (name.starts_with("export "))
      return wrong("begins with 'export'").hint("this is no shell script: leave the word out");
    if (!is_name(name)) return wrong("has no usable name before the '='");
    UPD_ASSIGN(std::string value, value_of(trimmed(text_.substr(equals + 1))));
    if (value.find('\0') != std::string::npos || !base::is_valid_utf8(value))
      return wrong("has bytes that are no UTF-8 text");
    return Variable(std::string(name), std::move(value));
  }

 private:
  Error wrong(const std::string& what) const {
    return Error(Code::config_invalid,
                 "'" + file_ + "' line " + std::to_string(number_) + " " + what)
        .expected("NAME=value");
  }

  Result<std::string> value_of(std::string_view text) const {
    if (text.starts_with('\'')) return single_quoted(text.substr(1));
    if (text.starts_with('"')) return unescaped(text.substr(1), true);
    return unescaped(text, false);
  }

  Result<std::string> single_quoted(std::string_view text) const {
    const std::size_t end = text.find('\'');
    if (end == std::string_view::npos) return wrong("has no closing quote");
    if (end + 1 != text.size()) return wrong("goes on after the closing quote");
    return std::string(text.substr(0, end));
  }

  // systemd.exec(5): a backslash takes the next character as it is; within double quotes only
  // before a quote, a backslash, a backtick or a dollar sign.
  Result<std::string> unescaped(std::string_view text, bool quoted) const {
    std::string value;
    for (std::size_t at = 0; at < text.size(); ++at) {
      const char c = text[at];
      if (quoted && c == '"') {
        if (at + 1 != text.size()) return wrong("goes on after the closing quote");
        return value;
      }
      if (c != '\\') {
        value += c;
        continue;
      }
      if (++at == text.size()) return wrong("ends in a backslash: lines can't be joined");
      if (quoted && std::string_view("\"\\`$").find(text[at]) == std::string_view::npos)
        value += '\\';
      value += text[at];
    }
    if (quoted) return wrong("has no closing quote");
    return value;
  }

  const std::string& file_;
  std::size_t number_;
  std::string_view text_;
};

}  // namespace

Result<std::vector<Variable>> read_environment_file(const std::string& path) {
  const base::Guard guard{Code::config_invalid, base::kOthersMayReadOrWrite, false};
  UPD_ASSIGN(const auto content, base::read_guarded_file(path, guard, kMaxEnvironmentFileBytes));
  if (!content) return Error(Code::config_invalid, "there is no environment file '" + path + "'");
  std::vector<Variable> variables;
  std::string_view left = *content;
  for (std::size_t number = 1; !left.empty(); ++number) {
    const std::size_t end = std::min(left.find('\n'), left.size());
    const Line line(path, number, left.substr(0, end));
    left.remove_prefix(std::min(end + 1, left.size()));
    if (line.is_blank()) continue;
    UPD_ASSIGN(Variable variable, line.variable());
    std::erase_if(variables, [&](const Variable& old) { return old.first == variable.first; });
    variables.push_back(std::move(variable));
  }
  return variables;
}

}  // namespace updagent::config
