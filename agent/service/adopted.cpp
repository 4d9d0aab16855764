// The supervisor's side of `updagent adopt`: a running service becomes its first generation.
#include <syslog.h>

#include "agent/service/adoption.hpp"
#include "agent/service/supervisor.hpp"

namespace updagent::service {
namespace {

using base::Code;
using base::Error;
using base::Json;
using base::Result;
using base::Status;

}  // namespace

Result<Answer> Supervisor::op_adopt(const Request& request) {
  UPD_TRY(check_not_stopping());
  if (!generations_.empty())
    return Error(Code::busy, "a service of '" + setup_.places.app + "' runs under updagent already")
        .got("version " + generations_.begin()->second->version())
        .hint("updagent status " + setup_.places.app);
  if (deployment_) return Error(Code::busy, "a deployment of this app is under way");
  UPD_ASSIGN(release::ResolvedService run, service_from(request));
  UPD_ASSIGN(RunningService found,
             find_running_service(static_cast<pid_t>(request.number("pid")), std::move(run)));
  UPD_TRY(choose_mechanism());
  if (policy_ && !found.why_shared.empty()) share_everything(found.why_shared);

  GenerationPlan plan;
  plan.number = next_number_++;
  plan.slot = free_slot();
  plan.adopted = true;
  for (std::size_t i = 0; i < found.listeners.size(); ++i)
    plan.sockets.push_back({found.run.service.listeners[i].name, std::move(found.listeners[i].fd)});
  plan.run = std::move(found.run);
  const std::uint64_t number = plan.number;
  auto made = std::make_unique<Generation>(*loop_, setup_.places, nullptr, std::move(plan),
                                           generation_events());
  UPD_TRY(made->take_over(std::move(found.process)));
  Generation& generation = *generations_.emplace(number, std::move(made)).first->second;
  generation.set_role(Role::active);
  active_ = number;
  Status joined = join_adopted(generation, found.listeners);
  if (!joined && policy_) {
    share_everything(joined.error().line());
    joined = join_adopted(generation, found.listeners);
  }
  if (!joined) {  // the service goes on as it did before
    active_ = 0;
    generations_.erase(number);
    static_cast<void>(choose_mechanism());
    return std::move(joined).error();
  }
  hold(generation);
  save_state();
  event("service.adopted", "success", &generation,
        {{"pid", generation.main_pid()}, {"mechanism", mechanism_name(mechanism_.mechanism)}});
  return Answer{{"generation", number},
                {"mechanism", mechanism_name(mechanism_.mechanism)},
                {"reason", mechanism_.reason},
                {"others", found.others}};
}

// The slot is named in the policy before the program is there: no connection finds it empty.
Status Supervisor::join_adopted(const Generation& generation,
                                const std::vector<listen::Adopted>& listeners) {
  UPD_TRY(apply_roles(0, 0));
  for (std::size_t i = 0; i < listeners.size(); ++i)
    UPD_TRY(listeners_->take_over(listeners[i].spec, generation.plan().sockets[i].fd.get(),
                                  generation.slot(), generation.number()));
  return base::ok();
}

// Its main process died. Nobody can start it again; but what serves without it must go on doing so.
void Supervisor::adopted_ended(Generation& generation) {
  std::vector<std::uint32_t> inodes;
  for (const OwnSocket& socket : generation.plan().sockets)
    if (const auto inode = listen::inode_of(socket.fd.get())) inodes.push_back(*inode);
  const std::vector<pid_t> serving = other_holders(inodes);
  last_problem_ =
      "the main process of the adopted service ended, and updagent can't start it again";
  if (!serving.empty())
    last_problem_ += "; process " + std::to_string(serving.front()) + " still serves";
  event("service.failed", "failure", &generation,
        {{"problem", last_problem_}, {"still_serving", serving}});
  ::syslog(LOG_CRIT, "updagent: %s: %s: apply a release", setup_.places.app.c_str(),
           last_problem_.c_str());
  if (serving.empty()) retire(generation.number(), true);  // refused is better than left hanging
  save_state();
}

}  // namespace updagent::service
