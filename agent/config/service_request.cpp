#include "agent/config/service_request.hpp"

#include <algorithm>
#include <map>
#include <utility>

#include "agent/base/text.hpp"
#include "agent/release/dialect.hpp"
#include "agent/release/listen_address.hpp"
#include "agent/release/placeholders.hpp"
#include "agent/release/service_rules.hpp"

namespace updagent::config {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::Status;
using Names = std::vector<std::string>;

std::string quoted_list(const Names& names) {
  Names quoted;
  quoted.reserve(names.size());
  for (const std::string& name : names) quoted.push_back("\"" + name + "\"");
  return "[" + base::join(quoted, ", ") + "]";
}

// A later list replaces an earlier one, so the line has what is allowed already too.
Error not_allowed(const std::string& what, const char* key, const Names& allowed,
                  const Names& refused, const AppPlace& place) {
  Names line = allowed;
  line.insert(line.end(), refused.begin(), refused.end());
  return Error(Code::privilege, "the release wants " + what)
      .expected(allowed.empty() ? "none" : "only " + base::join(allowed, ", "))
      .got(base::join(refused, ", "))
      .hint("allow it with [allow] " + std::string(key) + " = " + quoted_list(line) + " in " +
            place.config_path);
}

Status check_names(const Names& wanted, const Names& allowed, const char* key,
                   const std::string& what, const AppPlace& place) {
  if (wanted.empty()) return base::ok();
  if (!place.we_are_root)
    return Error(Code::privilege, "the release wants " + what)
        .expected("none: updagent does not run as root here, and can't give them")
        .got(base::join(wanted, ", "))
        .hint("run updagent as root");
  Names refused;
  for (const std::string& name : wanted)
    if (std::find(allowed.begin(), allowed.end(), name) == allowed.end()) refused.push_back(name);
  if (refused.empty()) return base::ok();
  return not_allowed(what, key, allowed, refused, place);
}

bool is_allowed(const release::ListenAddress& address, const Names& patterns,
                const AppPlace& place) {
  if (address.kind == release::AddressKind::unix_path &&
      address.path.starts_with(place.runtime + "/"))
    return true;
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& text) {
    const auto pattern = release::parse_address_pattern(text);
    return pattern && pattern->matches(address);
  });
}

Status check_addresses(const release::Service& wanted, const AppSettings& settings,
                       const AppPlace& place) {
  Names refused;
  for (const release::Listener& listener : wanted.listeners) {
    if (settings.listeners.contains(listener.name)) continue;
    UPD_ASSIGN(const auto address,
               release::parse_listen_address(listener.address, "listener '" + listener.name + "'",
                                             Code::manifest_invalid));
    if (!is_allowed(address, settings.allowed_addresses, place)) refused.push_back(address.text());
  }
  if (refused.empty()) return base::ok();
  return not_allowed("to listen where this node does not allow it", "addresses",
                     settings.allowed_addresses, refused, place);
}

// --- what will run ----------------------------------------------------------------------------

class Resolver {
 public:
  Resolver(release::ResolvedService known, const AppSettings& settings) : settings_(settings) {
    out_.run = std::move(known);
  }

  Result<ServiceResolution> resolve(const release::Service& wanted,
                                    const release::Variables& environment) {
    out_.run.service = wanted;
    UPD_TRY(addresses());
    rlimits();
    cut("ready_timeout", out_.run.service.ready_timeout, settings_.max_ready_timeout);
    cut("drain_timeout", out_.run.service.drain_timeout, settings_.max_drain_timeout);
    cut("stop_timeout", out_.run.service.stop_timeout, settings_.max_stop_timeout);
    for (release::Worker& worker : out_.run.service.workers)
      cut("workers." + worker.name + ".stop_timeout", worker.stop_timeout,
          settings_.max_stop_timeout);
    variables(environment);
    out_.run.environment_files = settings_.environment_files;
    out_.run.max_ready_timeout = settings_.max_ready_timeout;
    out_.run.max_stop_timeout = settings_.max_stop_timeout;
    out_.run.max_generations = settings_.max_generations;
    out_.run.memory_reserve = settings_.memory_reserve;
    out_.run.allow_io_uring = settings_.allow_io_uring;
    UPD_TRY(fits_together());
    return std::move(out_);
  }

 private:
  void change(std::string key, std::string by_release, std::string here) {
    if (by_release != here)
      out_.changes.push_back({std::move(key), std::move(by_release), std::move(here)});
  }

  Status addresses() {
    for (const auto& [name, address] : settings_.listeners) {
      auto& listeners = out_.run.service.listeners;
      const auto found =
          std::find_if(listeners.begin(), listeners.end(),
                       [&wanted = name](const auto& one) { return one.name == wanted; });
      if (found == listeners.end()) {
        out_.unused_listeners.push_back(name);
      } else {
        UPD_TRY(move_to(*found, address));
      }
    }
    return base::ok();
  }

  // What means nothing at another kind of address is as if it had not been said.
  Status move_to(release::Listener& listener, const std::string& address) {
    UPD_ASSIGN(const auto parsed,
               release::parse_listen_address(address, "run.listeners." + listener.name,
                                             Code::config_invalid));
    change("listeners." + listener.name + ".address", listener.address, address);
    const release::Listener defaults;
    listener.address = address;
    if (!parsed.is_v6()) listener.ipv6_only = false;
    if (!parsed.is_stream()) listener.backlog = defaults.backlog;
    if (parsed.kind != release::AddressKind::tcp) listener.proxy_protocol = false;
    if (parsed.kind == release::AddressKind::unix_path) return base::ok();
    listener.mode = defaults.mode;
    listener.user.clear();
    listener.group.clear();
    return base::ok();
  }

  static std::string limit_text(std::uint64_t value) {
    return value == release::kUnlimited ? "unlimited" : std::to_string(value);
  }

  void rlimits() {
    auto& limits = out_.run.service.rlimits;
    for (const auto& [name, value] : settings_.rlimits) {
      const auto asked = limits.find(name);
      change("rlimits." + name, asked == limits.end() ? "" : limit_text(asked->second),
             limit_text(value));
      limits[name] = value;
    }
  }

  void cut(std::string key, base::Milliseconds& span, base::Milliseconds longest) {
    const base::Milliseconds cut = std::min(span, longest);
    change(std::move(key), base::format_duration(span), base::format_duration(cut));
    span = cut;
  }

  // The node's values are texts, not templates; where it sets one, the release's template of
  // sockets is gone too.
  void variables(const release::Variables& environment) {
    std::map<std::string, std::string> all(environment.begin(), environment.end());
    auto& of_sockets = out_.run.service.socket_environment;
    for (const auto& [name, value] : settings_.environment) {
      all[name] = release::escape_template(value);
      std::erase_if(of_sockets, [&wanted = name](const auto& one) { return one.first == wanted; });
      out_.changes.push_back({"environment." + name, "", ""});
    }
    out_.run.environment.assign(all.begin(), all.end());
  }

  Status fits_together() const {
    release::Dialect dialect = release::kManifestDialect;
    dialect.code = Code::config_invalid;
    UPD_TRY_CONTEXT(
        release::check_service(out_.run.service, out_.run.environment, out_.run.strategy, dialect),
        "the release with this node's [run] settings");
    return base::ok();
  }

  const AppSettings& settings_;
  ServiceResolution out_;
};

}  // namespace

Status check_service_request(const release::Service& wanted, const AppSettings& settings,
                             const AppPlace& place) {
  UPD_TRY(check_names(wanted.groups, settings.allowed_groups, "groups",
                      "supplementary groups that this node does not allow", place));
  UPD_TRY(check_names(wanted.capabilities, settings.allowed_capabilities, "capabilities",
                      "capabilities that this node does not allow", place));
  return check_addresses(wanted, settings, place);
}

Result<ServiceResolution> resolve_service(const release::Service& wanted,
                                          const release::Variables& environment,
                                          release::ResolvedService known,
                                          const AppSettings& settings) {
  return Resolver(std::move(known), settings).resolve(wanted, environment);
}

}  // namespace updagent::config
