// What one supervisor leaves to the next: the state file says what there was, the holder has the
// descriptors, and what both have lost is looked for in the processes that still serve.
#include <fcntl.h>
#include <syslog.h>
#include <unistd.h>

#include <algorithm>

#include "agent/base/clock.hpp"
#include "agent/base/failpoints.hpp"
#include "agent/base/files.hpp"
#include "agent/base/text.hpp"
#include "agent/listen/adopt.hpp"
#include "agent/service/state_file.hpp"
#include "agent/service/supervisor.hpp"

namespace updagent::service {
namespace {

using base::Code;
using base::Error;
using base::Json;
using base::Result;
using base::Status;
using base::UniqueFd;

constexpr base::Milliseconds kSweepPatience{2'000};
constexpr const char* kPolicyName = "policy";

std::string prefix_of(std::uint64_t generation) {
  return "g" + std::to_string(generation) + ":";
}

std::string socket_name(std::uint64_t generation, const std::string& listener) {
  return prefix_of(generation) + "socket:" + listener;
}

// Of sd_notify; the prefix with "notify" is the filter's.
std::string notify_name(std::uint64_t generation) {
  return prefix_of(generation) + "notify_socket";
}

std::optional<std::uint64_t> generation_of_name(const std::string& name) {
  const std::size_t colon = name.find(':');
  if (!name.starts_with("g") || colon == std::string::npos) return std::nullopt;
  return base::parse_u64(std::string_view(name).substr(1, colon - 1));
}

// "g7:store:0003:1:counter": in order, with FDPOLL.
std::string stored_name(std::uint64_t generation, std::size_t index,
                        const launch::StoredDescriptor& entry) {
  std::string number = std::to_string(index);
  number.insert(0, 4 - std::min<std::size_t>(4, number.size()), '0');
  return prefix_of(generation) + "store:" + number + ":" + (entry.watched ? "1:" : "0:") +
         entry.name;
}

// Whoever gave them is not connected to a successor.
Json orders_json(const std::vector<Order>& orders) {
  Json list = Json::array();
  for (const Order& order : orders)
    list.push_back({{"id", order.id}, {"order", order.word}, {"actor", order.actor}});
  return list;
}

std::vector<Order> orders_from(const Json& list) {
  std::vector<Order> orders;
  for (const Json& one : list)
    orders.push_back({one.value("id", std::uint64_t{0}), one.value("order", std::string()),
                      one.value("actor", std::string()), 0});
  return orders;
}

}  // namespace

// --- leaving

void Supervisor::save_state() {
  std::string text = describe_state().dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text != saved_state_) {  // a service may say the same thing as often as it likes
    saved_ = replace_file(setup_.places.state(), text);
    saved_state_ = saved_ ? std::move(text) : std::string();
    goes_on_once(saved_);
  }
  base::failpoint::hit("service.state_saved");
}

Json Supervisor::describe_state() const {
  Json generations = Json::array();
  for (const auto& [number, generation] : generations_)
    if (generation->life() != Life::gone) generations.push_back(generation->to_json());
  Json state = {{"state_version", kStateVersion},
                {"boot_id", base::boot_id()},
                {"next_number", next_number_},
                {"active", active_},
                {"standby", standby_},
                {"epoch", epoch_},
                {"next_order", next_order_},
                {"stop_wanted", stop_wanted_},
                {"waiting", waiting_},
                {"waits_for", waits_for_},
                {"mechanism", listen::mechanism_name(mechanism_.mechanism)},
                {"reason", mechanism_.reason},
                {"generations", std::move(generations)}};
  state["workers"] = workers_->to_json();
  if (listeners_) state["listeners"] = listeners_->to_json();
  if (policy_)
    if (const auto ids = policy_->ids()) state["policy"] = {{"map", ids->map}, {"tag", ids->tag}};
  if (deployment_)
    state["deployment"] = {{"epoch", deployment_->epoch},
                           {"trace_id", deployment_->trace_id},
                           {"candidate", deployment_->candidate},
                           {"weight", deployment_->weight},
                           {"lease_lost", deployment_->lease_lost},
                           {"aborted_by", deployment_->aborted_by},
                           {"orders", orders_json(deployment_->orders)},
                           {"automatic", deployment_->automatic}};
  if (deployment_ && deployment_->old_run)
    if (const auto run = release::resolved_service_to_json(*deployment_->old_run, Code::internal))
      state["deployment"]["old_run"] = *run;
  return state;
}

// Under the names that the holder has them by, and what a holder never has.
std::map<std::string, int> Supervisor::descriptors() const {
  std::map<std::string, int> all = listeners_ ? listeners_->shared_sockets() : decltype(all)();
  if (policy_) all[kPolicyName] = policy_->map_fd();
  for (const auto& [number, generation] : generations_) {
    if (generation->life() == Life::gone) continue;
    const std::string prefix = prefix_of(number);
    for (const OwnSocket& socket : generation->plan().sockets)
      if (socket.fd) all[socket_name(number, socket.listener)] = socket.fd.get();
    if (generation->inject_notify_fd() >= 0) {
      all[prefix + "notify"] = generation->inject_notify_fd();
      all[prefix + "journal"] = generation->inject_journal_fd();
    }
    if (generation->notify_socket_fd() >= 0)
      all[notify_name(number)] = generation->notify_socket_fd();
    if (generation->process() == nullptr) continue;
    const auto& entries = generation->store().entries();
    for (std::size_t i = 0; i < entries.size(); ++i)
      all[stored_name(number, i, entries[i])] = entries[i].descriptor.get();
  }
  for (const auto& [number, fd] : workers_->notify_sockets())
    all[prefix_of(number) + "notify_socket"] = fd;
  return all;
}

// One that fails is a descriptor that a successor may not find, or finds though nobody has it any
// more. The same words once: a holder that died fails at every one, until watch_holder() puts all
// of them to its successor.
void Supervisor::put(const std::string& name, int fd) {
  goes_on_once(holder_.put(name, fd));
}

void Supervisor::drop(const std::string& name) {
  goes_on_once(holder_.drop(name));
}

void Supervisor::hold(const Generation& generation) {
  for (const OwnSocket& socket : generation.plan().sockets)
    if (socket.fd) put(socket_name(generation.number(), socket.listener), socket.fd.get());
  for (const auto& [name, fd] : listeners_->shared_sockets()) put(name, fd);
  if (policy_) put(kPolicyName, policy_->map_fd());
}

// The same socket for all starts of the generation.
void Supervisor::hold_notify(const Generation& generation) {
  if (generation.notify_socket_fd() < 0 || held_notify_.contains(generation.number())) return;
  const std::string name = notify_name(generation.number());
  if (holder_.put_notify(name, generation.notify_socket_fd()))
    held_notify_.insert(generation.number());
}

// Called at every change of a generation; only what is new goes over.
void Supervisor::hold_stored(const Generation& generation) {
  if (generation.process() == nullptr) return;  // nothing was ever stored
  const std::string prefix = prefix_of(generation.number());
  if (generation.inject_notify_fd() >= 0) {
    put(prefix + "notify", generation.inject_notify_fd());
    put(prefix + "journal", generation.inject_journal_fd());
  }
  std::vector<HeldStored>& held = held_stored_[generation.number()];
  std::vector<HeldStored> now;
  const auto& entries = generation.store().entries();
  now.reserve(entries.size());
  for (std::size_t i = 0; i < entries.size(); ++i) {
    now.push_back({stored_name(generation.number(), i, entries[i]), entries[i].id});
    if (i >= held.size() || held[i] != now[i]) put(now[i].name, entries[i].descriptor.get());
  }
  for (std::size_t i = 0; i < held.size(); ++i)
    if (i >= now.size() || held[i].name != now[i].name) drop(held[i].name);
  held = std::move(now);
}

void Supervisor::hold_everything() {
  held_stored_.clear();
  held_notify_.clear();
  for (const auto& [number, generation] : generations_) {
    if (generation->life() == Life::gone) continue;
    hold(*generation);
    hold_notify(*generation);
    if (generation->process() != nullptr) hold_stored(*generation);
  }
}

void Supervisor::drop_held(const Generation& generation) {
  for (const OwnSocket& socket : generation.plan().sockets)
    drop(socket_name(generation.number(), socket.listener));
  for (const std::string& name : listeners_->no_longer_shared(generation)) drop(name);
  const std::string prefix = prefix_of(generation.number());
  drop(notify_name(generation.number()));
  held_notify_.erase(generation.number());
  drop(prefix + "notify");
  drop(prefix + "journal");
  for (const HeldStored& one : held_stored_[generation.number()]) drop(one.name);
  held_stored_.erase(generation.number());
}

// --- coming

Status Supervisor::take_over(Kept& kept) {
  Json state = std::move(kept.state);
  if (state.is_null()) {
    UPD_ASSIGN(state, read_state(setup_.places.state()));
  }
  // What is not taken over is ended: a package that was set back must not do that to what serves.
  if (state.is_object())
    if (const Status understood = check_understood(state); !understood)
      return Error(understood.error())
          .hint("what runs goes on: install the updagent that was here before");
  std::map<std::string, UniqueFd> held = std::move(kept.held);
  if (held.empty() && holder_.was_running()) {
    auto all = holder_.take_all();
    if (all) held = std::move(*all);
    goes_on(all ? base::ok() : Status(all.error()));  // what serves has most of it open itself
  }
  if (!state.is_object() || !state.contains("generations")) {
    if (cgroups_) static_cast<void>(cgroups_->sweep({}, kSweepPatience));
    drop_orphaned(held);
    return base::ok();
  }
  mechanism_.mechanism = state.value("mechanism", std::string()) == "steered"
                             ? listen::Mechanism::steered
                             : listen::Mechanism::shared;
  mechanism_.reason = state.value("reason", std::string());
  if (mechanism_.mechanism == listen::Mechanism::steered) {
    const Json ids = state.value("policy", Json::object());
    const listen::PolicyIds known{ids.value("map", 0U), ids.value("tag", std::uint64_t{0})};
    const auto fd = held.find(kPolicyName);
    auto policy = fd != held.end() ? listen::Policy::from_fd(std::move(fd->second), known.tag)
                                   : listen::Policy::reopen(known);
    if (!policy) policy = listen::Policy::create();
    if (!policy) return std::move(policy).error();
    policy_ = std::move(*policy);
  }
  listeners_ = std::make_unique<ListenerSet>(policy_ ? &*policy_ : nullptr);
  next_number_ = state.value("next_number", std::uint64_t{1});
  active_ = state.value("active", std::uint64_t{0});
  standby_ = state.value("standby", std::uint64_t{0});
  epoch_ = state.value("epoch", std::uint64_t{0});
  next_order_ = state.value("next_order", std::uint64_t{1});
  stop_wanted_ = state.value("stop_wanted", false);
  waiting_ = state.value("waiting", std::uint64_t{0});
  waits_for_ = state.value("waits_for", std::set<std::uint64_t>());
  for (const Json& one : state["generations"])
    if (const Status taken = take_over_generation(one, held); !taken)
      event("supervisor.problem", "failure", nullptr, {{"problem", taken.error().line()}});
  const Status workers =
      workers_->take_over(state.value("workers", Json::object()), [&held](std::uint64_t number) {
        return std::move(held[prefix_of(number) + "notify_socket"]);
      });
  if (!workers)
    event("supervisor.problem", "failure", nullptr, {{"problem", workers.error().line()}});
  std::vector<const Generation*> living;
  std::set<std::uint64_t> numbers = workers_->numbers();
  for (const auto& [number, generation] : generations_) {
    living.push_back(generation.get());
    numbers.insert(number);
  }
  UPD_TRY(listeners_->adopt(state.value("listeners", Json::array()), living, held));
  if (cgroups_) static_cast<void>(cgroups_->sweep(numbers, kSweepPatience));
  drop_strangers(held);
  base::failpoint::hit("service.adopted");
  restore_roles(state);
  hold_everything();
  save_state();
  event("supervisor.adopted", "success", nullptr, {{"generations", generations_.size()}});
  return base::ok();
}

// Of a generation that our predecessor died with before the state named it: whoever came to its
// sockets goes to the active one when the last of them is closed.
void Supervisor::drop_strangers(std::map<std::string, UniqueFd>& held) {
  for (auto& [name, fd] : held) {
    const auto number = generation_of_name(name);
    if (!number || generations_.contains(*number)) continue;
    drop(name);
    fd.reset();
  }
}

// Nobody knows any more what these are: held on, they would keep their addresses taken for ever.
void Supervisor::drop_orphaned(const std::map<std::string, UniqueFd>& held) {
  if (held.empty()) return;
  for (const auto& [name, fd] : held) drop(name);
  goes_on(
      Error(Code::not_found, "the state of the supervisor before is lost: what it held is let go")
          .expected("'" + setup_.places.state() + "'")
          .got("none of this boot"));
}

// By the holder's name; where that is lost, by the inode in what the process itself has open. One
// that ends may have closed its listener already, and needs it no more: an empty one stands for it.
Result<std::vector<OwnSocket>> Supervisor::sockets_of(const Json& state,
                                                      std::map<std::string, UniqueFd>& held) {
  const std::uint64_t number = state.value("number", std::uint64_t{0});
  std::vector<listen::RunningListener> running;
  bool asked = false;
  const bool ends = state.value("life", std::string()) == life_name(Life::stopping) ||
                    state.value("role", std::string()) == role_name(Role::draining);
  std::vector<OwnSocket> sockets;
  for (const Json& one : state.value("sockets", Json::array())) {
    OwnSocket socket;
    socket.listener = one.value("listener", std::string());
    const auto found = held.find(socket_name(number, socket.listener));
    if (found != held.end()) {
      socket.fd = std::move(found->second);
    } else {
      if (!asked) {
        asked = true;
        const pid_t pid = state.contains("process") && state["process"].is_object()
                              ? state["process"].value("pid", 0)
                              : 0;
        if (auto all = listen::running_listeners(pid); all) running = std::move(*all);
      }
      const std::uint32_t inode = one.value("inode", 0U);
      for (listen::RunningListener& listener : running)
        if (listener.inode == inode && listener.fd) socket.fd = std::move(listener.fd);
    }
    if (!socket.fd && !ends)
      return Error(Code::not_found, "the socket '" + socket.listener + "' of generation " +
                                        std::to_string(number) + " is lost");
    sockets.push_back(std::move(socket));
  }
  return sockets;
}

Status Supervisor::take_over_generation(const Json& state, std::map<std::string, UniqueFd>& held) {
  GenerationPlan plan;
  plan.number = state.value("number", std::uint64_t{0});
  plan.slot = static_cast<listen::Slot>(state.value("slot", 0));
  plan.adopted = state.value("adopted", false);
  UPD_ASSIGN(plan.run,
             release::resolved_service_from_json(state.value("run", std::string()), Code::damaged));
  UPD_ASSIGN(plan.sockets, sockets_of(state, held));
  const std::uint64_t number = plan.number;
  const std::string prefix = prefix_of(number);
  std::vector<std::string> names;
  names.reserve(plan.run.service.listeners.size());
  for (const release::Listener& listener : plan.run.service.listeners)
    names.push_back(listener.name);
  UPD_ASSIGN(const std::unique_ptr<launch::FdStore> stored, launch::FdStore::create(names));
  for (auto& [name, fd] : held) {  // sorted: in the order of the store
    const std::string begin = prefix + "store:";
    if (!name.starts_with(begin)) continue;
    static_cast<void>(
        stored->add(name.substr(begin.size() + 7), fd, name[begin.size() + 5] == '1'));
  }
  auto made = std::make_unique<Generation>(*loop_, setup_.places, cgroups_ ? &*cgroups_ : nullptr,
                                           std::move(plan), generation_events());
  Generation& generation = *made;
  generations_.emplace(number, std::move(made));
  Inherited inherited;
  inherited.notify_socket = std::move(held[notify_name(number)]);
  inherited.inject_notify = std::move(held[prefix + "notify"]);
  inherited.inject_journal = std::move(held[prefix + "journal"]);
  const Status adopted = generation.adopt(state, stored.get(), std::move(inherited));
  const std::string role = state.value("role", std::string());
  generation.set_role(role == "active"     ? Role::active
                      : role == "standby"  ? Role::standby
                      : role == "draining" ? Role::draining
                                           : Role::candidate);
  if (!generation.output_in_journal()) static_cast<void>(outputs_.add(generation.output_file()));
  // its process is gone: what follows is the same as when it had died before our eyes
  if (!adopted && number != waiting_)
    timers_[number] =
        loop_->after(base::Milliseconds(0), [this, number, problem = adopted.error()] {
          if (Generation* found = find(number)) found->lost(problem);
        });
  return base::ok();
}

// What services said while no supervisor lived: from here on as if they said it now. A supervisor
// that dies meanwhile leaves it for the next one; to hear it twice changes nothing.
void Supervisor::hear_earlier() {
  if (!holder_.was_running()) return;
  auto heard = holder_.hear();
  if (!heard)
    return event("supervisor.problem", "failure", nullptr, {{"problem", heard.error().line()}});
  for (auto& [name, messages] : *heard) {
    const auto number = generation_of_name(name);
    if (Generation* generation = number ? find(*number) : nullptr)
      generation->hear_earlier(std::move(messages));
  }
  holder_.forget_heard();
}

base::Milliseconds Supervisor::lease_left() const {
  if (!policy_) return kLease;
  const std::uint64_t end_ns = policy_->expires_ns();
  const std::uint64_t now_ns = listen::steering_now_ns();
  return base::Milliseconds(end_ns > now_ns ? (end_ns - now_ns) / 1'000'000 + 1 : 0);
}

void Supervisor::restore_roles(const Json& state) {
  if (state.contains("deployment")) {
    deployment_.emplace();
    deployment_->epoch = state["deployment"].value("epoch", std::uint64_t{0});
    deployment_->trace_id = state["deployment"].value("trace_id", std::string());
    deployment_->candidate = state["deployment"].value("candidate", std::uint64_t{0});
    if (find(deployment_->candidate) == nullptr) deployment_->candidate = 0;
    // The weight that the kernel has goes on under its lease, if the driver still lives and comes
    // back for it; else the rule. Without steering the public names have it, and the lease is ours.
    deployment_->weight = policy_ ? policy_->effective_weight()
                                  : state["deployment"].value("weight", std::uint16_t{0});
    // run out with nobody there: a verdict all the same
    deployment_->lease_lost = state["deployment"].value("lease_lost", false) ||
                              (policy_ && policy_->roles().weight > 0 && deployment_->weight == 0);
    if (deployment_->weight > 0)
      deployment_->lease_timer = loop_->after(lease_left(), [this] { lease_expired(); });
    deployment_->automatic = state["deployment"].value("automatic", false);
    deployment_->aborted_by = state["deployment"].value("aborted_by", std::string());
    deployment_->orders = orders_from(state["deployment"].value("orders", Json::array()));
    if (const auto run = release::resolved_service_from_json(
            state["deployment"].value("old_run", std::string()), Code::damaged))
      deployment_->old_run = *run;
    if (!deployment_->automatic) expect_driver();
  }
  finish_automatic();
  if (!deployment_ || deployment_->weight == 0) steer_back();
  for (const auto& [number, generation] : generations_) {
    const bool wanted = number == active_ || (deployment_ && number == deployment_->candidate);
    if (generation->life() == Life::stopping) continue;
    if (stop_wanted_) {
      generation->stop(false);
    } else if (!wanted && generation->role() == Role::candidate &&
               generation->life() == Life::ready) {
      retire_withdrawn(number);
    } else if (!wanted) {
      retire(number, false);
    } else if (generation->life() == Life::starting && generation->process() != nullptr) {
      on_changed(*generation);
      // Its READY may have gone to the one that died. Nobody must lose the only server for that.
      if (number == active_ && !checks_.contains(number)) look_whether_listening(number);
    }
  }
  start_waiting();
}

// An operator's restart has no driver: what has become of it meanwhile is its end.
void Supervisor::finish_automatic() {
  if (!deployment_ || !deployment_->automatic) return;
  const Generation* next = candidate();
  if (next == nullptr) {
    deployment_.reset();
  } else if (next->life() == Life::ready) {
    promote_candidate();
  }
}

}  // namespace updagent::service
