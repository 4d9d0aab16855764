#include "agent/deploy/result.hpp"

namespace updagent::deploy {

std::string_view outcome_name(Outcome outcome) {
  switch (outcome) {
    case Outcome::committed:
      return "committed";
    case Outcome::rolled_back:
      return "rolled_back";
    case Outcome::aborted:
      return "aborted";
    case Outcome::refused:
      return "refused";
    case Outcome::unchanged:
      return "unchanged";
    case Outcome::rollback_failed:
      return "rollback_failed";
  }
  return "";
}

std::optional<Outcome> outcome_from_name(std::string_view name) {
  for (const Outcome outcome : {Outcome::committed, Outcome::rolled_back, Outcome::aborted,
                                Outcome::refused, Outcome::unchanged, Outcome::rollback_failed})
    if (outcome_name(outcome) == name) return outcome;
  return std::nullopt;
}

base::Exit DeployResult::exit() const {
  switch (outcome) {
    case Outcome::committed:
    case Outcome::unchanged:
      return base::Exit::done;
    case Outcome::rolled_back:
      return requested_rollback ? base::Exit::done : base::Exit::rolled_back;
    case Outcome::rollback_failed:
      return base::Exit::rollback_failed;
    case Outcome::refused:
    case Outcome::aborted:
      break;
  }
  return error ? error->exit() : base::Exit::failed;
}

}  // namespace updagent::deploy
