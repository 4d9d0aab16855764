// What one supervisor leaves to the next of a generation, and services that none of them started.
#include <sys/epoll.h>

#include "agent/service/generation.hpp"

namespace updagent::service {
namespace {

using base::Code;
using base::Error;
using base::Json;
using base::Result;
using base::Status;

Json identity_json(const launch::ProcessIdentity& identity) {
  return {{"pid", identity.pid},
          {"start_ticks", identity.start_ticks},
          {"boot_id", identity.boot_id},
          {"pidfs_inode", identity.pidfs_inode}};
}

launch::ProcessIdentity identity_from(const Json& json) {
  launch::ProcessIdentity identity;
  identity.pid = json.value("pid", 0);
  identity.start_ticks = json.value("start_ticks", std::uint64_t{0});
  identity.boot_id = json.value("boot_id", std::string());
  identity.pidfs_inode = json.value("pidfs_inode", std::uint64_t{0});
  return identity;
}

}  // namespace

Json Generation::to_json() const {
  Json sockets = Json::array();
  for (const OwnSocket& socket : plan_.sockets) {
    const auto inode = listen::inode_of(socket.fd.get());
    sockets.push_back({{"listener", socket.listener}, {"inode", inode ? *inode : 0}});
  }
  // a worker's is that of its release, which its set writes once for all
  const auto run = plan_.worker.empty()
                       ? release::resolved_service_to_json(plan_.run, Code::internal)
                       : Result<std::string>(std::string());
  return {{"number", plan_.number},
          {"worker", plan_.worker},
          {"slot", plan_.slot},
          {"life", life_name(life_)},
          {"role", role_name(role_)},
          {"since_us", since_us_},
          {"starts", starts_},
          {"status", status_text_},
          {"trace_id", trace_id_},
          {"watchdog_usec", watchdog_usec_.value_or(0)},
          {"in_journal", output_in_journal_},
          {"adopted", plan_.adopted},
          {"begun_boot_us", begun_us_},
          {"due_boot_us", due_us_},
          {"drain_due_boot_us", drain_due_us_},
          {"process", process_ ? identity_json(process_->identity()) : Json(nullptr)},
          {"sockets", std::move(sockets)},
          {"run", run ? *run : std::string()}};
}

Status Generation::adopt(const Json& state, launch::FdStore* stored, Inherited inherited) {
  const release::ResolvedService& run = plan_.run;
  starts_ = state.value("starts", 1);
  since_us_ = state.value("since_us", base::wall_now_us());
  status_text_ = state.value("status", std::string());
  trace_id_ = state.value("trace_id", std::string());
  const std::string life = state.value("life", std::string());
  // a state of before has no such times: all of it anew
  const base::Milliseconds whole =
      life == "stopping" ? run.service.stop_timeout : run.service.ready_timeout;
  begun_us_ = state.value("begun_boot_us", begun_us_);
  due_us_ = state.value("due_boot_us", begun_us_ + whole.count() * 1000);
  drain_due_us_ = state.value("drain_due_boot_us", std::int64_t{0});
  if (life == "stopping") life_ = Life::stopping;
  if (stored != nullptr) {
    UPD_ASSIGN(store_, stored->copy_for(listener_names()));
  } else {
    UPD_ASSIGN(store_, launch::FdStore::create(listener_names()));
  }
  if (!plan_.adopted) adopt_surroundings(state, std::move(inherited.notify_socket));
  const Status found = adopt_process(state, std::move(inherited));
  if (life_ == Life::stopping) {
    // whether its main process still lives or not: the rest has its time
    arm_stop_timeout(time_left());
    if (!found) rest_timer_ = loop_.after(base::Milliseconds(0), [this] { look_for_rest(); });
    return base::ok();
  }
  UPD_TRY(found);
  life_ = life == "starting" ? Life::starting : Life::ready;
  arm_watchdog();
  // The clocks of our predecessor go on.
  if (life_ == Life::starting) arm_ready_timeout(time_left());
  return base::ok();
}

// What a service that updagent did not start has none of. Whatever of it can't be had (a user whom
// the directory service does not know just now), the process serves on without it.
void Generation::adopt_surroundings(const Json& state, base::UniqueFd notify_socket) {
  const auto said = [this](const Status& done) {
    if (!done) events_.complaint(*this, done.error().line());
    return done.has_value();
  };
  output_in_journal_ = state.value("in_journal", false);
  if (const std::uint64_t usec = state.value("watchdog_usec", std::uint64_t{0}); usec > 0)
    watchdog_usec_ = usec;
  if (cgroups_ != nullptr) {
    if (auto found = cgroups_->find(plan_.number); found) {
      cgroup_ = std::move(*found);
      said(watch_cgroup());
    }
  }
  said(watch_store());
  // without either the next start binds one that its user can reach
  if (said(find_identity()) || notify_socket) said(prepare_notify(std::move(notify_socket)));
}

Status Generation::adopt_process(const Json& state, Inherited inherited) {
  if (!state.contains("process") || state["process"].is_null())
    return Error(Code::not_found, run_name() + " had not started");
  UPD_ASSIGN(process_, launch::ProcessWatch::adopt(identity_from(state["process"])));
  UPD_TRY(watch_process());
  inject_notify_ = std::move(inherited.inject_notify);
  inject_journal_ = std::move(inherited.inject_journal);
  return inject_notify_ ? make_injector() : base::ok();
}

Status Generation::take_over(launch::ProcessWatch process) {
  plan_.adopted = true;
  process_ = std::move(process);
  UPD_ASSIGN(store_, launch::FdStore::create(listener_names()));
  life_ = Life::ready;
  return watch_process();
}

}  // namespace updagent::service
