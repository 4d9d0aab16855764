// Lines of a spool file: first {"spool":{"node_name":..,"written_us":..}}, then {"event":{...}} or
// {"deployment":{...}}, {"release":{...}}, {"app":{...}}.
// The spool is this node's own, between one version and the next: not an interface.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/journal/journal.hpp"
#include "agent/journal/rows.hpp"

namespace updagent::journal {

inline constexpr std::string_view kSpoolSuffix = ".jsonl";
inline constexpr std::size_t kMaxSpoolFiles =
    10'000;  // a bound for listings; kMaxSpoolBytes comes first

struct SpoolHeader {
  std::string node_name;
  std::int64_t written_us = 0;
};

std::string spool_lines(const SpoolHeader& header, std::span<const EventDraft> events,
                        const Rows& rows);

struct SpoolContent {
  SpoolHeader header;
  std::vector<EventDraft> events;
  std::optional<DeploymentRow> deployment;
  std::optional<ReleaseRow> release;
  std::optional<AppRow> app;
  std::int64_t skipped = 0;  // lines that can't be understood
};

SpoolContent parse_spool(std::string_view text);

}  // namespace updagent::journal
