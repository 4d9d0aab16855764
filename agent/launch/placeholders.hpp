// Fills in the placeholders of commands and variables, in the dialect of docs/artifact.md,
// "Service": "{" and a lower-case letter begin one, "{{" is a brace, and any other brace is itself,
// so that JSON needs no escaping.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "agent/base/error.hpp"

namespace updagent::launch {

class Placeholders {
 public:
  void set(std::string name, std::string value);
  // The hint for names that begin so and are not there: why "fd:" can't be had.
  void explain_absence(std::string prefix, std::string reason);

  // `place` is for the refusal: "word 2 of the command". Code::config_invalid for a placeholder
  // that is not known, with the nearest one.
  base::Result<std::string> expand(std::string_view text, const std::string& place) const;

 private:
  base::Error unknown(std::string_view name, const std::string& place) const;

  std::map<std::string, std::string, std::less<>> values_;
  std::map<std::string, std::string> absences_;
};

}  // namespace updagent::launch
