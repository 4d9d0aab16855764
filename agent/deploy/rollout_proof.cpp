// When a step is over, and what it proves: too few came, nobody came, or its gates never held
// together.
#include <algorithm>

#include "agent/base/text.hpp"
#include "agent/deploy/rollout.hpp"

namespace updagent::deploy {
namespace {

using base::Code;
using base::Error;
using base::Json;
using base::Milliseconds;
using base::Status;

std::string percent_text(int percent) {
  return std::to_string(percent) + " %";
}

std::string number_of(std::size_t count, const char* what) {
  return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
}

}  // namespace

// Gates that nobody could judge have not passed.
std::string Rollout::what_held(Milliseconds span) const {
  const release::Manifest& manifest = *parts_.manifest;
  const auto gates = static_cast<std::size_t>(std::ranges::count_if(
      manifest.gates, [this](const release::Gate& gate) { return log_.has_passed(gate.name); }));
  std::vector<std::string> held;
  if (!manifest.probes.empty()) held.push_back(number_of(manifest.probes.size(), "probe"));
  if (gates > 0) held.push_back(number_of(gates, "gate"));
  std::string text = held.empty() ? "no probes" : base::join(held, " and ") + " passed";
  if (gates < manifest.gates.size())
    text += ", " + number_of(manifest.gates.size() - gates, "gate") + " not judged";
  if (span.count() > 0) text += ", held for " + base::format_duration(span);
  return text;
}

bool Rollout::too_few_came(const Stretch& stretch) const {
  return stretch.min_connections > 0 && time_left(stretch.span + stretch.patience).count() == 0 &&
         count().candidate < static_cast<std::uint64_t>(stretch.min_connections);
}

Error Rollout::too_few(const Stretch& stretch) const {
  return Error(Code::gate_failed, "the step of " + percent_text(stretch.percent) +
                                      " had too few connections to prove anything")
      .expected(std::to_string(stretch.min_connections) + " of the candidate within " +
                base::format_duration(stretch.span + stretch.patience))
      .got(std::to_string(count().candidate) + " of " + std::to_string(count().all))
      .hint("rollout.min_connections and step_patience decide that");
}

// Each of its gates and probes has passed or failed for itself by now. Where none fails often
// enough in a row, and never all hold, that would go on for ever.
bool Rollout::goes_up_and_down(const Stretch& stretch, const std::string& open) const {
  return !open.empty() && time_left(stretch.span + stretch.patience + to_decide_).count() == 0;
}

Error Rollout::undecided(const Stretch& stretch, const std::string& open) const {
  return Error(Code::gate_failed,
               (stretch.watching ? "the watch" : "the step of " + percent_text(stretch.percent)) +
                   " has neither passed nor failed")
      .expected("all gates and probes to hold at once within " +
                base::format_duration(stretch.span + stretch.patience + to_decide_))
      .got(open)
      .hint("max_failures of a gate is a limit for what fails now and then");
}

// A step in which nobody came is said to prove nothing, also where it may end so.
Status Rollout::end_stretch(const Stretch& stretch) {
  UPD_TRY(look_anew());
  const Count came = count();
  show(stretch, Milliseconds(0), "", true);
  if (!steered() || stretch.watching || stretch.percent == 0) return base::ok();
  connections_ += came.candidate;
  const bool proves = came.candidate > 0;
  parts_.recorder->event("rollout.step", "success",
                         {{"percent", stretch.percent},
                          {"connections", came.candidate},
                          {"of", came.all},
                          {"proves", proves}});
  static_cast<void>(parts_.recorder->flush());
  if (!proves) say_nothing_came(stretch);
  warn_of_few_clients(stretch);
  return base::ok();
}

void Rollout::say_nothing_came(const Stretch& stretch) {
  unproven_.push_back(stretch.percent);
  // the others have their line, and of a first release nobody expects users yet
  if (unproven_.size() > 1 || parts_.first) return;
  const Count came = count();
  const std::string why =
      came.all > 0 ? "none of " + std::to_string(came.all) + " new connections was its own"
                   : "no new connection came at all (a proxy that keeps its connections, or a "
                     "quiet hour)";
  parts_.observer->warning("the step of " + percent_text(stretch.percent) + " proves nothing: " +
                           why + "; rollout.min_connections makes a step wait for some");
}

void Rollout::warn_of_few_clients(const Stretch& stretch) {
  if (warned_of_clients_ || parts_.manifest->rollout.affinity != release::Affinity::client) return;
  const Json clients = measured_.value("clients", Json::object());
  const auto all = clients.value("connections", std::uint64_t{0});
  const auto busiest = clients.value("of_the_busiest", std::uint64_t{0});
  if (all < kEnoughToSeeClients || busiest * 2 < all || stretch.percent == kAll) return;
  warned_of_clients_ = true;
  parts_.observer->warning("ten addresses carry " + std::to_string(busiest * kAll / all) +
                           " % of the connections: with affinity = \"client\" the share of traffic "
                           "can't follow the steps (a proxy in front? then affinity = "
                           "\"connection\")");
}

}  // namespace updagent::deploy
