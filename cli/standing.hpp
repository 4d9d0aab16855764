// How an app stands: what its links name, what is open, whether a person has to decide. What status
// and doctor say of it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "agent/journal/journal.hpp"
#include "agent/store/store.hpp"
#include "cli/session.hpp"

namespace updagent::cli {

struct Standing {
  std::string app;
  std::string current;    // "" = none
  std::string committed;  // "" = none
  std::string previous;   // where rollback leads, "" = nowhere
  std::optional<journal::AppRow> row;
  std::optional<journal::DeploymentRow> open;
  std::optional<journal::DeploymentRow> last;  // that has ended
  bool running = false;                        // its driver lives
  std::string failed_trace;                    // of the last deployment, if its way back failed

  bool needs_person() const;
  std::string problem() const;  // a line for people, "" when nobody is needed
  std::string way_out() const;  // what to do about it
};

// `journal` null: the links alone.
Standing standing_of(const Session& session, journal::Journal* journal,
                     const store::AppStore& store);

// Apps with releases; after `remove` only data/ is left of one.
base::Result<std::vector<std::string>> installed_apps(const Session& session);

}  // namespace updagent::cli
