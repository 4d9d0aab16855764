// How a deployment ended: the JSON of `apply` and `rollback`, and the exit code.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/error.hpp"

namespace updagent::deploy {

enum class Outcome {
  committed,
  rolled_back,
  aborted,
  refused,
  unchanged,
  rollback_failed,  // exit 8: docs/adr/0006
};
std::string_view outcome_name(Outcome outcome);
std::optional<Outcome> outcome_from_name(std::string_view name);

struct StageRecord {
  std::string stage;
  std::string phase;
  std::string status;  // success, failure, skipped
  std::int64_t started_us = 0;
  std::int64_t duration_us = 0;
};

struct DeployResult {
  std::string trace_id;
  std::string app;
  std::string from;  // "" = none
  std::string to;
  Outcome outcome = Outcome::aborted;
  std::string reason;  // stable word or words: "healthy", "no_previous", "signature_unknown_key"
  std::uint64_t bytes_downloaded = 0;
  std::uint64_t bytes_reused = 0;
  std::vector<StageRecord> stages;
  std::vector<int> unproven_steps;   // percents: no new connection was the candidate's in them
  std::optional<base::Error> error;  // why it did not end as asked
  bool requested_rollback = false;   // `rollback` was the wish: rolled_back is success
  bool dry_run = false;
  std::vector<std::string> plan;  // --dry-run: what would happen, a line each

  base::Exit exit() const;
};

}  // namespace updagent::deploy
