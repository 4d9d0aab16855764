// What the kernel and the steering know of the generations: for gates, and for the share of traffic
// that is measured and not only wished for.
#include "agent/launch/memory_check.hpp"
#include "agent/launch/output.hpp"
#include "agent/service/supervisor.hpp"

namespace updagent::service {
namespace {

using base::Code;
using base::Error;
using base::Json;
using base::Result;

// Null where nobody knows.
Json nullable(const std::optional<std::uint64_t>& figure) {
  return figure ? Json(*figure) : Json(nullptr);
}

}  // namespace

// Counters are those of the slot: whoever asks takes differences. `thorough`: also what costs a
// walk through /proc or page tables.
Json Supervisor::figures_of(const Generation& generation, const listen::SlotCounters& counters,
                            bool thorough) const {
  const auto& row = counters[generation.slot()];
  const listen::AcceptQueue queue = listeners_->queues(generation);
  Json figures = {{"number", generation.number()},
                  {"version", generation.version()},
                  {"role", role_name(generation.role())},
                  {"state", life_name(generation.life())},
                  {"selected", row.selected},
                  {"fallback", row.fallback},
                  {"migrated", row.migrated},
                  {"critical", row.critical},
                  {"probes", row.probes},
                  {"waiting", queue.waiting},
                  {"waiting_limit", queue.limit},
                  {"crashes", std::max(generation.starts() - 1, 0)}};
  const launch::CgroupUsage usage =
      generation.cgroup() != nullptr ? generation.cgroup()->usage() : launch::CgroupUsage();
  figures["cpu_us"] = nullable(usage.cpu_us);
  figures["oom_kills"] = nullable(usage.oom_kills);
  if (!thorough || generation.main_pid() == 0) return figures;
  const std::vector<pid_t> processes = generation.processes();
  figures["memory_bytes"] = launch::memory_in_use(generation.cgroup(), processes).bytes;
  figures["descriptors"] = nullable(launch::descriptors_in_use(processes));
  return figures;
}

Result<Answer> Supervisor::op_measure(const Request& request) {
  if (!listeners_) return Error(Code::not_found, "nothing runs here");
  const listen::SlotCounters counters = listeners_->counters();
  Json generations = Json::array();
  for (const auto& [number, generation] : generations_)
    if (generation->life() != Life::gone)
      generations.push_back(
          figures_of(*generation, counters, request.fields.value("thorough", false)));
  Answer answer = {{"generations", std::move(generations)}};
  if (policy_) {
    const listen::ClientSpread spread = policy_->clients();
    answer["clients"] = {{"connections", spread.connections},
                         {"of_the_busiest", spread.of_the_busiest}};
  }
  return answer;
}

// Its last words, for the log. Where the journal has them nobody else does.
Result<Answer> Supervisor::op_output(const Request& request) {
  const Generation* generation = find(request.number("generation"));
  if (generation == nullptr) return Error(Code::not_found, "there is no such generation");
  if (generation->output_in_journal()) return Answer{{"output", ""}, {"in_journal", true}};
  UPD_ASSIGN(const std::string tail, launch::tail_of_output(generation->output_file(), kTailBytes));
  return Answer{{"output", tail}, {"in_journal", false}};
}

}  // namespace updagent::service
