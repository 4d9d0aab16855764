#include "agent/launch/placeholders.hpp"

#include <utility>
#include <vector>

#include "agent/base/text.hpp"

namespace updagent::launch {
namespace {

bool begins_placeholder(std::string_view text) {
  return text.size() >= 2 && text[0] == '{' && text[1] >= 'a' && text[1] <= 'z';
}

base::Error unclosed(std::string_view text, const std::string& place) {
  return base::Error(base::Code::config_invalid, "a placeholder without its '}' in " + place)
      .got("'" + base::printable(text) + "'")
      .hint("write '{{' for a brace that is meant as such");
}

}  // namespace

void Placeholders::set(std::string name, std::string value) {
  values_.insert_or_assign(std::move(name), std::move(value));
}

void Placeholders::explain_absence(std::string prefix, std::string reason) {
  absences_.insert_or_assign(std::move(prefix), std::move(reason));
}

base::Error Placeholders::unknown(std::string_view name, const std::string& place) const {
  std::vector<std::string> known;
  known.reserve(values_.size());
  for (const auto& [key, value] : values_) known.push_back(key);
  base::Error error =
      base::Error(base::Code::config_invalid,
                  "unknown placeholder '{" + base::printable(name) + "}' in " + place)
          .expected("one of {" + base::join(known, "} {") + "}");
  for (const auto& [prefix, reason] : absences_)
    if (name.starts_with(prefix)) return std::move(error).hint(reason);
  const auto near = base::nearest(name, known);
  return std::move(error).hint(near ? "did you mean '{" + *near + "}'?"
                                    : "write '{{' for a brace that is meant as such");
}

base::Result<std::string> Placeholders::expand(std::string_view text,
                                               const std::string& place) const {
  std::string out;
  for (std::string_view rest = text; !rest.empty();) {
    if (!begins_placeholder(rest)) {
      out += rest.front();
      rest.remove_prefix(rest.starts_with("{{") ? 2 : 1);
      continue;
    }
    const std::size_t end = rest.find('}');
    if (end == std::string_view::npos) return unclosed(rest, place);
    const std::string_view name = rest.substr(1, end - 1);
    const auto found = values_.find(name);
    if (found == values_.end()) return unknown(name, place);
    out += found->second;
    rest.remove_prefix(end + 1);
  }
  return out;
}

}  // namespace updagent::launch
