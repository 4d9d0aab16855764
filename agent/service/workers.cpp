#include "agent/service/workers.hpp"

#include <unistd.h>

#include <algorithm>

#include "agent/base/failpoints.hpp"

namespace updagent::service {

using base::Code;
using base::Error;
using base::Json;
using base::Status;

release::ResolvedService worker_run(const release::ResolvedService& run,
                                    const release::Worker& worker) {
  release::ResolvedService own = run;
  release::Service& service = own.service;
  service.command = worker.command;
  service.stop_signal = worker.stop_signal;
  service.stop_timeout = worker.stop_timeout;
  service.protocol = release::Protocol::systemd;  // without listeners it adds nothing
  service.ready = release::Ready::probe;          // when it runs, which we see ourselves
  service.watchdog = base::Milliseconds(0);
  service.reload_signal = 0;
  service.role_signal = 0;
  service.listeners.clear();
  service.socket_environment.clear();  // its placeholders are of listeners
  service.workers.clear();
  return own;
}

WorkerSet::WorkerSet(Loop& loop, const Places& places, launch::CgroupTree* cgroups,
                     launch::OutputBound& outputs, WorkerHost host)
    : loop_(loop), places_(places), cgroups_(cgroups), outputs_(outputs), host_(std::move(host)) {}

WorkerSet::~WorkerSet() = default;

// --- which are to run

void WorkerSet::switch_to(const release::ResolvedService& run) {
  want(run.service.workers.empty() ? nullptr
                                   : std::make_shared<const release::ResolvedService>(run));
}

void WorkerSet::keep(const release::ResolvedService& run) {
  if (wanted_ ? *wanted_ == run : run.service.workers.empty()) return;
  switch_to(run);
}

void WorkerSet::stop_all() {
  want(nullptr);
}

// The state has the wish before anything of it is done: a successor goes on with it.
void WorkerSet::want(Release release) {
  if (!wanted_ && !release) return;
  wanted_ = std::move(release);
  wanted_since_us_ = base::wall_now_us();
  host_.save();
  base::failpoint::hit("service.workers_switched");
  reconcile();
}

void WorkerSet::reconcile() {
  for (auto& [number, member] : members_)
    if (member.release != wanted_) end(member);
  if (waits_for_old()) {
    if (!hanging_) hanging_ = loop_.after(patience() + kUnkillable, [this] { say_who_hangs(); });
    host_.save();
    base::failpoint::hit("service.workers_stopping");
    return;
  }
  hanging_.reset();
  if (!wanted_) return;
  for (const release::Worker& worker : wanted_->service.workers)
    if (!has(worker.name)) start(make(wanted_, worker, host_.next_number()));
}

void WorkerSet::end(Member& member) {
  member.timer.reset();
  Generation& process = *member.process;
  // a second signal means "now" to some
  if (process.life() == Life::stopping || process.life() == Life::gone) return;
  process.stop(false);
}

bool WorkerSet::waits_for_old() const {
  return std::any_of(members_.begin(), members_.end(),
                     [this](const auto& item) { return item.second.release != wanted_; });
}

bool WorkerSet::has(const std::string& worker) const {
  return std::any_of(members_.begin(), members_.end(), [&](const auto& item) {
    return item.second.process->plan().worker == worker;
  });
}

void WorkerSet::say_who_hangs() {
  for (const auto& [number, member] : members_) {
    if (member.release == wanted_ || member.process->life() == Life::gone) continue;
    host_.event(
        "supervisor.problem", "failure", member.process.get(),
        {{"problem", "worker '" + member.process->plan().worker + "' of " +
                         member.process->version() + " has not ended" +
                         (wanted_ ? ": the workers of " + wanted_->version + " wait for it" : "")},
         {"pids", member.process->processes()}});
  }
}

// --- one of them

GenerationEvents WorkerSet::events() {
  GenerationEvents events;
  events.ready = [this](Generation&) { host_.save(); };
  events.failed = [this](Generation& process, const Error& error) {
    host_.failed(process, error);
    restart_later(process.number());
  };
  events.gone = [this](Generation& process) { on_gone(process); };
  events.changed = [this](Generation& process) {
    if (process.life() == Life::starting && process.process() != nullptr)
      return process.mark_ready();
    host_.save();
  };
  events.before_kill = [](Generation&) {};  // no connection is cut
  events.complaint = [this](Generation& process, const std::string& what) {
    host_.complaint(process, what);
  };
  return events;
}

WorkerSet::Member& WorkerSet::make(const Release& release, const release::Worker& worker,
                                   std::uint64_t number) {
  GenerationPlan plan;
  plan.number = number;
  plan.slot = listen::kNoSlot;
  plan.worker = worker.name;
  plan.run = worker_run(*release, worker);
  Member& member = members_[number];
  member.release = release;
  member.process =
      std::make_unique<Generation>(loop_, places_, cgroups_, std::move(plan), events());
  member.process->set_role(Role::active);
  return member;
}

void WorkerSet::start(Member& member) {
  Generation& process = *member.process;
  const bool again = process.starts() > 0;
  host_.save();  // who dies now leaves a process that its successor knows of
  const Status started = try_start(process);
  base::failpoint::hit("service.worker_started");
  if (!started) {
    host_.failed(process, started.error());
    return restart_later(process.number());
  }
  host_.event("service.started", "started", &process, {{"pid", process.main_pid()}});
  if (again) host_.event("service.restarted", "started", &process, Json::object());
  if (!process.output_in_journal()) static_cast<void>(outputs_.add(process.output_file()));
  host_.save();
}

Status WorkerSet::try_start(Generation& process) {
  // it may have left children that are not dead yet
  if (process.starts() > 0 && !process.processes().empty())
    return Error(Code::busy, "processes of the worker '" + process.plan().worker + "' still live");
  return process.start(nullptr, 0);
}

void WorkerSet::restart_later(std::uint64_t number) {
  Member& member = members_.at(number);
  const base::Milliseconds wait = member.crashes.another(base::monotonic_now_us());
  if (member.crashes.is_loop()) host_.crash_loop(*member.process, member.crashes.in_a_row());
  host_.save();
  member.timer = loop_.after(wait, [this, number] { start(members_.at(number)); });
}

void WorkerSet::on_gone(Generation& process) {
  host_.event("service.stopped", "success", &process, Json::object());
  outputs_.remove(process.output_file());
  ::unlink(process.output_file().c_str());
  // it is the process itself that calls
  sweep_ = loop_.after(base::Milliseconds(0), [this] { sweep(); });
}

void WorkerSet::sweep() {
  std::vector<std::uint64_t> gone;
  for (const auto& [number, member] : members_)
    if (member.process->life() == Life::gone) gone.push_back(number);
  for (const std::uint64_t number : gone) members_.erase(number);
  if (!gone.empty() && !waits_for_old()) base::failpoint::hit("service.workers_gone");
  reconcile();
  host_.save();
  if (!gone.empty()) host_.gone(gone);
}

// --- what there is

base::Milliseconds WorkerSet::patience() const {
  base::Milliseconds longest{0};
  for (const auto& [number, member] : members_)
    longest = std::max(longest, member.process->plan().run.service.stop_timeout);
  return longest;
}

bool WorkerSet::can_be_kept() const {
  return std::all_of(members_.begin(), members_.end(),
                     [](const auto& item) { return item.second.process->can_be_kept(); });
}

Json WorkerSet::status() const {
  Json all = Json::array();
  for (const auto& [number, member] : members_) {
    const Generation& process = *member.process;
    all.push_back({{"name", process.plan().worker},
                   {"version", process.version()},
                   {"pid", process.main_pid()},
                   {"state", life_name(process.life())},
                   {"starts", process.starts()},
                   {"since_us", process.since_us()}});
  }
  if (!wanted_ || !waits_for_old()) return all;
  for (const release::Worker& worker : wanted_->service.workers)
    all.push_back({{"name", worker.name},
                   {"version", wanted_->version},
                   {"pid", 0},
                   {"state", "waiting"},
                   {"starts", 0},
                   {"since_us", wanted_since_us_}});
  return all;
}

std::set<std::uint64_t> WorkerSet::numbers() const {
  std::set<std::uint64_t> all;
  for (const auto& [number, member] : members_) all.insert(number);
  return all;
}

std::map<std::uint64_t, int> WorkerSet::notify_sockets() const {
  std::map<std::uint64_t, int> all;
  for (const auto& [number, member] : members_)
    if (const int fd = member.process->notify_socket_fd(); fd >= 0) all[number] = fd;
  return all;
}

// --- succession

Json WorkerSet::to_json() const {
  std::vector<Release> releases;
  const auto index_of = [&releases](const Release& release) {
    const auto found = std::find(releases.begin(), releases.end(), release);
    const auto index = static_cast<std::size_t>(found - releases.begin());
    if (index == releases.size()) releases.push_back(release);
    return index;
  };
  Json wanted = nullptr;
  if (wanted_) wanted = index_of(wanted_);
  Json processes = Json::array();
  for (const auto& [number, member] : members_) {
    if (member.process->life() == Life::gone) continue;
    Json one = member.process->to_json();
    one["release"] = index_of(member.release);
    processes.push_back(std::move(one));
  }
  Json texts = Json::array();
  for (const Release& release : releases) {
    const auto text = release::resolved_service_to_json(*release, Code::internal);
    texts.push_back(text ? *text : std::string());
  }
  return {{"wanted", std::move(wanted)},
          {"since_us", wanted_since_us_},
          {"releases", std::move(texts)},
          {"processes", std::move(processes)}};
}

Status WorkerSet::check(const Json& state) {
  for (const Json& text : state.value("releases", Json::array()))
    UPD_TRY(release::resolved_service_from_json(text.is_string() ? text.get<std::string>() : "",
                                                Code::requires_agent));
  return base::ok();
}

Status WorkerSet::take_over(const Json& state,
                            const std::function<base::UniqueFd(std::uint64_t)>& notify_socket) {
  std::vector<Release> releases;
  for (const Json& text : state.value("releases", Json::array())) {
    UPD_ASSIGN(release::ResolvedService run,
               release::resolved_service_from_json(text.is_string() ? text.get<std::string>() : "",
                                                   Code::damaged));
    releases.push_back(std::make_shared<const release::ResolvedService>(std::move(run)));
  }
  const auto release_of = [&](const Json& index) {
    const std::size_t i = index.is_number_integer() ? index.get<std::size_t>() : releases.size();
    return i < releases.size() ? releases[i] : Release();
  };
  wanted_ = release_of(state.value("wanted", Json(nullptr)));
  wanted_since_us_ = state.value("since_us", std::int64_t{0});
  Status taken = base::ok();
  for (const Json& one : state.value("processes", Json::array())) {
    const std::uint64_t number = one.value("number", std::uint64_t{0});
    const Status result =
        take_over_one(one, release_of(one.value("release", Json(nullptr))), notify_socket(number));
    if (!result) taken = result;
  }
  if (wanted_ || !members_.empty())
    sweep_ = loop_.after(base::Milliseconds(0), [this] { sweep(); });
  return taken;
}

// Without a process that the state knows, what there is of it goes and another one comes. One that
// was known and has died: the same as before our eyes.
void WorkerSet::settle(Generation& process, bool known, const Status& adopted) {
  if (adopted) return process.mark_ready();
  if (known) return process.lost(adopted.error());
  process.stop(true);
}

Status WorkerSet::take_over_one(const Json& state, const Release& release,
                                base::UniqueFd notify_socket) {
  const std::string name = state.value("worker", std::string());
  if (!release) return Error(Code::damaged, "the worker '" + name + "' is of no release");
  const auto& workers = release->service.workers;
  const auto found = std::find_if(workers.begin(), workers.end(),
                                  [&](const auto& worker) { return worker.name == name; });
  if (found == workers.end())
    return Error(Code::damaged, "there is no worker '" + name + "' in " + release->version);
  const std::uint64_t number = state.value("number", std::uint64_t{0});
  Member& member = make(release, *found, number);
  Generation& process = *member.process;
  Inherited inherited;
  inherited.notify_socket = std::move(notify_socket);
  const Status adopted = process.adopt(state, nullptr, std::move(inherited));
  if (!process.output_in_journal()) static_cast<void>(outputs_.add(process.output_file()));
  const bool known = state.contains("process") && state["process"].is_object();
  member.timer = loop_.after(base::Milliseconds(0), [this, number, known, adopted] {
    settle(*members_.at(number).process, known, adopted);
  });
  return base::ok();
}

}  // namespace updagent::service
