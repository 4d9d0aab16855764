// The checks of single values that the rules of all sections are made of.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/clock.hpp"
#include "agent/base/error.hpp"
#include "agent/release/bounds.hpp"
#include "agent/release/dialect.hpp"

namespace updagent::release {

// Letters, digits, '_', '-', '.': what needs no quoting anywhere, and fits LISTEN_FDNAMES.
bool is_plain_name(std::string_view name);
// As in POSIX, "Environment Variable Definition", with lower case.
bool is_variable_name(std::string_view name);
// Of users and groups.
bool is_user_name(std::string_view name);
bool has_control(std::string_view text);

// Each names `place` when `value` is not what it may be.
class Checks {
 public:
  explicit Checks(const Dialect& dialect) : dialect_(dialect) {}

 protected:
  const Dialect& dialect() const { return dialect_; }
  // The key of a duration: "ready_timeout" or "ready_timeout_ms".
  std::string span_key(std::string_view key) const {
    return std::string(key) + std::string(dialect_.duration_suffix);
  }
  base::Error wrong(const std::string& place, std::string expected, std::string got) const;
  // One line for people: no control bytes.
  base::Status label(const std::string& place, std::string_view value) const;
  // What fits JSON, an environment and argv alike.
  base::Status text(const std::string& place, std::string_view value) const;
  // What is_plain_name() takes.
  base::Status plain_name(const std::string& place, std::string_view value) const;
  base::Status number(const std::string& place, std::int64_t value, std::int64_t low,
                      std::int64_t high) const;
  base::Status span(const std::string& place, base::Milliseconds value,
                    base::Milliseconds shortest) const;
  base::Status argv(const std::string& place, const std::vector<std::string>& argv) const;
  // Names of variables, sorted, each once; texts as values.
  base::Status variables(const std::string& place,
                         const std::vector<std::pair<std::string, std::string>>& variables) const;

 private:
  Dialect dialect_;
};

}  // namespace updagent::release
