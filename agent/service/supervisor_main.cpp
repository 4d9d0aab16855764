// updagent-supervisor: the long-lived process of one app. A program of its own, because it is
// small: `updagent supervise APP` finds out what is to run and becomes this.
#include <signal.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <string_view>

#include "agent/base/files.hpp"
#include "agent/base/text.hpp"
#include "agent/service/supervisor.hpp"
#include "agent/service/tell_systemd.hpp"

namespace updagent::service {
namespace {

using base::Code;
using base::Error;
using base::Exit;
using base::Result;
using base::Status;

constexpr std::string_view kCheckState = "--check-state";

struct Arguments {
  SupervisorSetup setup;
  int kept_fd = -1;     // of ourselves before an upgrade
  int service_fd = -1;  // of the release to start when nothing runs; -1: none
  bool end = false;     // what is taken over is ended
};

Result<Arguments> read_arguments(int argc, char** argv) {
  Arguments arguments;
  arguments.setup.words = {argv[0]};
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view name = argv[i];
    const std::string value = argv[i + 1];
    if (name == "--kept-fd") {
      if (const auto fd = base::parse_u64(value)) arguments.kept_fd = static_cast<int>(*fd);
      continue;
    }
    if (name != "--service-fd" && name != "--end")
      arguments.setup.words.insert(arguments.setup.words.end(), {std::string(name), value});
    if (name == "--app") arguments.setup.places.app = value;
    if (name == "--runtime") arguments.setup.places.runtime = value;
    if (name == "--folder") arguments.setup.app_folder = value;
    if (name == "--events") arguments.setup.events_folder = value;
    if (name == "--cgroup") arguments.setup.cgroup_folder = value;
    if (name == "--rollback-word") arguments.setup.rollback_command.push_back(value);
    if (name == "--recover-word") arguments.setup.recover_command.push_back(value);
    if (name == "--orphan-patience-ms")
      if (const auto ms = base::parse_u64(value))
        arguments.setup.orphan_patience = base::Milliseconds(*ms);
    if (name == "--end") arguments.end = value == "1";
    if (name == "--service-fd")
      if (const auto fd = base::parse_u64(value)) arguments.service_fd = static_cast<int>(*fd);
  }
  if (arguments.setup.places.app.empty() || arguments.setup.places.runtime.empty() ||
      arguments.setup.app_folder.empty() || arguments.setup.events_folder.empty())
    return Error(Code::usage, "this program is started by: updagent supervise APP");
  return arguments;
}

Status supervise(const Arguments& arguments) {
  Kept kept;
  if (arguments.kept_fd >= 0) {
    UPD_ASSIGN(kept, take_kept(arguments.kept_fd));
  }
  UPD_ASSIGN(const std::unique_ptr<Supervisor> supervisor,
             Supervisor::create(arguments.setup, std::move(kept)));
  if (arguments.service_fd >= 0) {
    const base::UniqueFd fd(arguments.service_fd);
    UPD_ASSIGN(const std::string text,
               base::read_fd(fd.get(), "the service", release::kMaxResolvedServiceBytes));
    UPD_ASSIGN(release::ResolvedService run,
               release::resolved_service_from_json(text, Code::config_invalid));
    UPD_TRY(supervisor->start_committed(std::move(run)));
  }
  if (arguments.end) supervisor->end_all();
  tell_systemd("READY=1");
  return supervisor->run();
}

int run(int argc, char** argv) {
  ::openlog("updagent-supervisor", LOG_PID, LOG_DAEMON);
  for (const int number : {SIGHUP, SIGPIPE}) ::signal(number, SIG_IGN);
  ::umask(022);
  if (argc == 3 && argv[1] == kCheckState) {
    const Status understood = check_state(argv[2]);
    if (!understood) std::fprintf(stderr, "%s\n", understood.error().line().c_str());
    return static_cast<int>(understood ? Exit::done : understood.error().exit());
  }
  const auto arguments = read_arguments(argc, argv);
  const Status ended = arguments ? supervise(*arguments) : Status(arguments.error());
  if (ended) return static_cast<int>(Exit::done);
  ::syslog(LOG_ERR, "%s", ended.error().line().c_str());
  std::fprintf(stderr, "updagent-supervisor: %s\n", ended.error().line().c_str());
  return static_cast<int>(ended.error().exit());
}

}  // namespace
}  // namespace updagent::service

int main(int argc, char** argv) {
  return updagent::service::run(argc, argv);
}
