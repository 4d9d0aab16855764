#include "agent/release/semver.hpp"

#include <algorithm>
#include <array>
#include <optional>

#include "agent/base/text.hpp"
#include "agent/release/describe.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Error;

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool is_identifier_char(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-';
}

bool is_number(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), is_digit);
}

bool has_leading_zero(std::string_view text) {
  return text.size() > 1 && text[0] == '0';
}

Error not_semver(std::string_view text, const std::string& why) {
  return Error(Code::manifest_invalid, "not a SemVer 2.0.0 version: " + why)
      .expected("a version such as 1.4.2 or 1.5.0-rc.1")
      .got(in_quotes(text));
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const std::size_t at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

// Cuts `text` at the first `mark` and returns what followed it.
std::optional<std::string_view> cut(std::string_view& text, char mark) {
  const std::size_t at = text.find(mark);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view after = text.substr(at + 1);
  text = text.substr(0, at);
  return after;
}

// Why a dot-separated list of identifiers is wrong, or "".
std::string identifiers_problem(const std::vector<std::string_view>& parts, bool is_prerelease) {
  for (const std::string_view part : parts) {
    if (part.empty()) return "an identifier is empty";
    if (!std::all_of(part.begin(), part.end(), is_identifier_char))
      return "identifiers have only letters, digits and '-'";
    if (is_prerelease && is_number(part) && has_leading_zero(part)) return "a number begins with 0";
  }
  return {};
}

// Why MAJOR.MINOR.PATCH is wrong, or "" and `into` is filled.
std::string core_problem(std::string_view core, SemVer& into) {
  const auto parts = split(core, '.');
  const std::array<std::uint64_t*, 3> fields = {&into.major, &into.minor, &into.patch};
  if (parts.size() != fields.size()) return "not three numbers";
  for (std::size_t i = 0; i < fields.size(); ++i) {
    if (!is_number(parts[i])) return "not three numbers";
    if (has_leading_zero(parts[i])) return "a number begins with 0";
    const auto value = base::parse_u64(parts[i]);
    if (!value) return "a number is past 64 bits";
    *fields[i] = *value;
  }
  return {};
}

// Numeric identifiers have no leading zero, so the longer one is the larger one: no overflow.
std::strong_ordering compare_identifiers(std::string_view a, std::string_view b) {
  const bool a_number = is_number(a);
  const bool b_number = is_number(b);
  if (a_number != b_number)
    return a_number ? std::strong_ordering::less : std::strong_ordering::greater;
  if (a_number && a.size() != b.size()) return a.size() <=> b.size();
  return a <=> b;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

enum class Operator { equal, less, less_equal, greater, greater_equal };

Operator take_operator(std::string_view& clause) {
  static constexpr std::array<std::pair<std::string_view, Operator>, 5> kOperators = {{
      {">=", Operator::greater_equal},  // the longer spellings first
      {"<=", Operator::less_equal},
      {">", Operator::greater},
      {"<", Operator::less},
      {"=", Operator::equal},
  }};
  for (const auto& [spelling, meaning] : kOperators) {
    if (!clause.starts_with(spelling)) continue;
    clause.remove_prefix(spelling.size());
    return meaning;
  }
  return Operator::equal;
}

bool holds(std::strong_ordering order, Operator wanted) {
  switch (wanted) {
    case Operator::equal:
      return order == 0;
    case Operator::less:
      return order < 0;
    case Operator::less_equal:
      return order <= 0;
    case Operator::greater:
      return order > 0;
    case Operator::greater_equal:
      return order >= 0;
  }
  return false;
}

}  // namespace

std::string SemVer::text() const {
  std::string out =
      std::to_string(major) + '.' + std::to_string(minor) + '.' + std::to_string(patch);
  if (!prerelease.empty()) out += '-' + base::join(prerelease, ".");
  if (!build.empty()) out += '+' + build;
  return out;
}

std::strong_ordering precedence(const SemVer& a, const SemVer& b) {
  if (const auto order = a.major <=> b.major; order != 0) return order;
  if (const auto order = a.minor <=> b.minor; order != 0) return order;
  if (const auto order = a.patch <=> b.patch; order != 0) return order;
  if (a.prerelease.empty() != b.prerelease.empty())
    return a.prerelease.empty() ? std::strong_ordering::greater : std::strong_ordering::less;
  return std::lexicographical_compare_three_way(a.prerelease.begin(), a.prerelease.end(),
                                                b.prerelease.begin(), b.prerelease.end(),
                                                compare_identifiers);
}

base::Result<SemVer> parse_semver(std::string_view text) {
  if (text.size() > kMaxVersionLength)
    return not_semver(text, "longer than " + std::to_string(kMaxVersionLength) + " characters");
  SemVer version;
  std::string_view core = text;
  const auto build = cut(core, '+');
  const auto prerelease = cut(core, '-');
  if (auto problem = core_problem(core, version); !problem.empty())
    return not_semver(text, problem);
  if (prerelease) {
    const auto parts = split(*prerelease, '.');
    if (auto problem = identifiers_problem(parts, true); !problem.empty())
      return not_semver(text, problem);
    version.prerelease.assign(parts.begin(), parts.end());
  }
  if (build) {
    if (auto problem = identifiers_problem(split(*build, '.'), false); !problem.empty())
      return not_semver(text, problem);
    version.build = *build;
  }
  return version;
}

base::Result<bool> satisfies(const SemVer& version, std::string_view requirement) {
  if (requirement.empty()) return true;
  bool all_hold = true;
  for (std::string_view clause : split(requirement, ',')) {
    clause = trim(clause);
    const Operator wanted = take_operator(clause);
    const auto bound = parse_semver(trim(clause));
    if (!bound)
      return Error(Code::manifest_invalid, "not a version requirement")
          .expected("one such as '>=1.0.0' or '>=1.2.0, <2.0.0'")
          .got(in_quotes(requirement));
    all_hold = all_hold && holds(precedence(version, *bound), wanted);
  }
  return all_hold;
}

bool is_app_name(std::string_view name) {
  const auto is_letter_or_digit = [](char c) { return is_digit(c) || (c >= 'a' && c <= 'z'); };
  if (name.empty() || name.size() > kMaxAppLength || !is_letter_or_digit(name[0])) return false;
  if (name.find("..") != std::string_view::npos) return false;
  return std::all_of(name.begin(), name.end(), [&](char c) {
    return is_letter_or_digit(c) || c == '.' || c == '_' || c == '-';
  });
}

}  // namespace updagent::release
