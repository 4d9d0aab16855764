// Reads the sections that the manifest and updagent.toml share (service, probes, hooks, preflight,
// rollout, gates, retention, requires, app, version) from a tree. A grammar says how the two spell
// them.
#pragma once

#include <span>
#include <string>

#include "agent/base/error.hpp"
#include "agent/release/fields.hpp"
#include "agent/release/manifest.hpp"
#include "agent/release/rules.hpp"

namespace updagent::release {

// The keys of each object in one of the two languages.
struct Grammar {
  Dialect dialect;
  bool statuses_may_be_short;  // 200 or "200-299" instead of ["200-299"]
  std::span<const Key> hook;
  std::span<const Key> retention;
  std::span<const Key> exec_probe;
  std::span<const Key> http_probe;
  std::span<const Key> tcp_probe;
};

class DescriptionReader {
 public:
  explicit DescriptionReader(const Grammar& grammar) : grammar_(grammar) {}

  // Every section that `top` has; app and version too. `into.strategy` is known and says what
  // [service] may have. Types and keys are checked, values are not: check_description() does that.
  base::Status read(const Fields& top, Manifest& into) const;

 private:
  base::Code code() const { return grammar_.dialect.code; }
  template <class Read>
  base::Status with_section(const Fields& parent, std::string_view key, std::span<const Key> keys,
                            Read read) const;
  base::Status span(const Fields& fields, std::string_view key, base::Milliseconds& into) const {
    return fields.span(std::string(key) + std::string(grammar_.dialect.duration_suffix),
                       grammar_.dialect, into);
  }
  base::Status version(const Fields& fields, std::string_view key, SemVer& into) const;
  base::Status hooks(const Fields& fields, Hooks& into) const;
  base::Status probe(const Fields& fields, Probe& into) const;
  base::Status probe_target(const Fields& fields, Probe& into) const;
  base::Status statuses(const Fields& fields, Probe& into) const;
  base::Status status(const base::Json& value, const std::string& place, Probe& into) const;
  base::Status service(const Fields& fields, Manifest& into) const;
  base::Status preflight(const Fields& top, Manifest& into) const;
  base::Status rollout(const Fields& top, Manifest& into) const;  // the gates too
  base::Status needs(const Fields& fields, Requires& into) const;
  std::span<const Key> probe_keys(ProbeType type) const;

  const Grammar& grammar_;
};

}  // namespace updagent::release
