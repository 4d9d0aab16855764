#include "agent/launch/service_start.hpp"

#include <linux/capability.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cerrno>
#include <set>

#include "agent/launch/environment.hpp"
#include "agent/launch/proc_stat.hpp"
#include "tests/unit/launch/launch_support.hpp"

namespace updagent::launch {
namespace {

using test::TestDirectory;

std::string hex(CapabilitySet set) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(set));
  return text;
}

std::size_t own_descriptors() {
  return static_cast<std::size_t>(
      std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
}

TEST(ServiceStart, The_service_has_exactly_the_intended_descriptors) {
  const base::UniqueFd leak(::open("/etc/hostname", O_RDONLY));  // without O_CLOEXEC, on purpose
  const base::UniqueFd high_leak(::fcntl(leak.get(), F_DUPFD, 100));
  const base::UniqueFd first(::memfd_create("first", 0));
  const base::UniqueFd second(::memfd_create("second", MFD_CLOEXEC));
  const base::UniqueFd output(::memfd_create("output", MFD_CLOEXEC));
  TestSpec spec(sleeper());
  // the higher number first: placing one must not overwrite the other
  spec.spec.descriptors = {{"http", second.get()}, {"https", first.get()}, {"twice", second.get()}};
  spec.spec.stdout_fd = output.get();
  const Running running(spec.spec);

  const auto found = running.descriptors();
  const std::map<int, std::string> expected = {{0, "/dev/null"},
                                               {1, "/memfd:output (deleted)"},
                                               {2, "/dev/null"},
                                               {3, "/memfd:second (deleted)"},
                                               {4, "/memfd:first (deleted)"},
                                               {5, "/memfd:second (deleted)"}};
  EXPECT_EQ(found, expected);
}

TEST(ServiceStart, Descriptors_come_right_when_ours_stand_where_theirs_will_be) {
  // the ten lowest free numbers, passed in the opposite order
  const std::string said = said_in_child([] {
    std::vector<base::UniqueFd> files;
    for (int i = 0; i < 10; ++i)
      files.emplace_back(::memfd_create(("file" + std::to_string(i)).c_str(), MFD_CLOEXEC));
    TestSpec spec(sleeper());
    for (auto file = files.rbegin(); file != files.rend(); ++file)
      spec.spec.descriptors.push_back({"x", file->get()});
    const Running running(spec.spec);
    const auto found = running.descriptors();
    if (found.size() != 13) return std::string("descriptors: ") + std::to_string(found.size());
    for (int i = 0; i < 10; ++i)
      if (found.at(3 + i) != "/memfd:file" + std::to_string(9 - i) + " (deleted)")
        return "at " + std::to_string(3 + i) + ": " + found.at(3 + i);
    return std::string("all in order");
  });
  EXPECT_EQ(said, "all in order");
}

TEST(ServiceStart, The_environment_is_exactly_the_list_whatever_ours_is) {
  for (const char* name : {"LISTEN_PID",
                           "LISTEN_FDS",
                           "LISTEN_FDNAMES",
                           "LISTEN_PIDFDID",
                           "NOTIFY_SOCKET",
                           "WATCHDOG_USEC",
                           "WATCHDOG_PID",
                           "FDSTORE",
                           "MAINPID",
                           "MANAGERPID",
                           "SYSTEMD_EXEC_PID",
                           "JOURNAL_STREAM",
                           "INVOCATION_ID",
                           "NGINX",
                           "UNICORN_FD",
                           "GUNICORN_FD",
                           "EINHORN_FD_0",
                           "LD_PRELOAD_OF_OURS",
                           "PUMA_INHERIT_0",
                           "SERVER_STARTER_PORT",
                           "UPDAGENT_FAILPOINTS_TRACE_"})
    ::setenv(name, "1", 1);
  ServiceSituation situation;
  situation.app = "shop";
  situation.version = "1.4.2";
  situation.generation = 7;
  situation.release_directory = "/r";
  situation.runtime_directory = "/run/7";
  situation.data_directory = "/d";
  situation.cache_directory = "/c";
  situation.identity = nobody();
  situation.listeners = {{"http", "tcp:0.0.0.0:80"}};
  situation.notify_socket = "/run/7/notify";
  const auto environment = service_environment(situation);
  ASSERT_TRUE(environment.has_value()) << environment.error().line();

  const base::UniqueFd socket(::memfd_create("socket", MFD_CLOEXEC));
  TestSpec spec(sleeper());
  spec.spec.environment = environment->variables;
  spec.spec.pid_variables = environment->pid_variables;
  spec.spec.descriptors = {{"http", socket.get()}};
  const Running running(spec.spec);

  std::vector<std::string> expected = {
      "CACHE_DIRECTORY=/c",
      "HOME=/nonexistent",
      "LANG=C.UTF-8",
      "LISTEN_FDNAMES=http",
      "LISTEN_FDS=1",
      "LOGNAME=nobody",
      "NOTIFY_SOCKET=/run/7/notify",
      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
      "RUNTIME_DIRECTORY=/run/7",
      "STATE_DIRECTORY=/d",
      "UPDAGENT_APP=shop",
      "UPDAGENT_GENERATION=7",
      "UPDAGENT_RELEASE_DIRECTORY=/r",
      "UPDAGENT_VERSION=1.4.2",
      "USER=nobody",
      "LISTEN_PID=" + std::to_string(running.pid())};
  EXPECT_EQ(running.environment(), expected);
}

TEST(ServiceStart, Every_pid_variable_gets_the_services_own_pid) {
  TestSpec spec(sleeper());
  spec.spec.pid_variables = {"LISTEN_PID", "WATCHDOG_PID"};
  const Running running(spec.spec);
  const std::string pid = std::to_string(running.pid());
  const std::vector<std::string> expected = {"PATH=/usr/bin:/bin", "LISTEN_PID=" + pid,
                                             "WATCHDOG_PID=" + pid};
  EXPECT_EQ(running.environment(), expected);
}

TEST(ServiceStart, An_ordinary_user_gets_its_groups_and_no_capability_at_all) {
  TestSpec spec(sleeper());
  spec.spec.identity = nobody();
  const Running running(spec.spec);
  EXPECT_EQ(running.status("Uid"), "65534\t65534\t65534\t65534");
  EXPECT_EQ(running.status("Gid"), "65533\t65533\t65533\t65533");
  EXPECT_EQ(running.status("Groups"), "4242 65533 ");
  for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"})
    EXPECT_EQ(running.status(set), hex(kNoCapabilities)) << set;
  EXPECT_EQ(running.status("NoNewPrivs"), "1");
}

TEST(ServiceStart, A_user_keeps_the_capabilities_it_is_given_and_no_other) {
  TestSpec spec(sleeper());
  spec.spec.identity = nobody();
  spec.spec.capabilities = capability_bit(CAP_NET_BIND_SERVICE) | capability_bit(CAP_SYS_NICE);
  const Running running(spec.spec);
  for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"})
    EXPECT_EQ(running.status(set), hex(*spec.spec.capabilities)) << set;
}

TEST(ServiceStart, Root_keeps_what_is_ours_unless_it_is_told_otherwise) {
  TestSpec spec(sleeper());
  {
    const Running running(spec.spec);
    EXPECT_EQ(running.status("CapEff"), hex(own_capabilities()));
    EXPECT_EQ(running.status("NoNewPrivs"), "1");
  }
  spec.spec.capabilities = capability_bit(CAP_NET_BIND_SERVICE);
  const Running running(spec.spec);
  EXPECT_EQ(running.status("Uid"), "0\t0\t0\t0");
  for (const char* set : {"CapPrm", "CapEff", "CapBnd"})
    EXPECT_EQ(running.status(set), hex(*spec.spec.capabilities)) << set;
}

TEST(ServiceStart, An_unprivileged_supervisor_starts_services_as_itself) {
  const auto guard = Guard::build({});
  ASSERT_TRUE(guard.has_value()) << guard.error().line();
  const std::string said = said_in_child([&] {
    if (::setresgid(kNobody, kNobody, kNobody) != 0 || ::setresuid(kNobody, kNobody, kNobody) != 0)
      return std::string("still root");
    TestSpec spec(sleeper());
    spec.spec.guard = &*guard;
    auto started = start_service(spec.spec);
    if (!started) return started.error().line();
    const std::string status = slurp("/proc/" + std::to_string(started->identity.pid) + "/status");
    ::kill(started->identity.pid, SIGKILL);
    const bool right = status.find("Uid:\t65534\t65534") != std::string::npos &&
                       status.find("NoNewPrivs:\t1\nSeccomp:\t2") != std::string::npos;
    if (!right) return status;
    spec.spec.identity.uid = 1234;
    return line_of(start_service(spec.spec));
  });
  EXPECT_TRUE(said.starts_with("cannot become user 'nobody' (setgroups): Operation not permitted"))
      << said;
}

TEST(ServiceStart, Umask_limits_folder_and_oom_score_are_those_of_the_spec) {
  const TestDirectory directory;
  TestSpec spec(sleeper());
  spec.spec.umask = 027;
  spec.spec.working_directory = directory.path();
  spec.spec.limits = {{RLIMIT_NOFILE, 777, 1234}, {RLIMIT_CORE, 0, 0}};
  spec.spec.oom_score_adj = 321;
  const Running running(spec.spec);
  EXPECT_EQ(running.status("Umask"), "0027");
  EXPECT_EQ(running.link("cwd"), directory.path());
  EXPECT_EQ(slurp(running.proc("oom_score_adj")), "321\n");
  const std::string limits = slurp(running.proc("limits"));
  EXPECT_NE(limits.find("Max open files            777                  1234"), std::string::npos)
      << limits;
  EXPECT_NE(limits.find("Max core file size        0                    0"), std::string::npos)
      << limits;
}

TEST(ServiceStart, Signals_are_at_their_default_and_unblocked_whatever_ours_are) {
  sigset_t blocked;
  sigset_t before;
  ::sigemptyset(&blocked);
  ::sigaddset(&blocked, SIGTERM);
  ::sigaddset(&blocked, SIGRTMIN + 3);
  ::pthread_sigmask(SIG_BLOCK, &blocked, &before);
  const auto pipe_before = ::signal(SIGPIPE, SIG_IGN);
  TestSpec spec(sleeper());
  const Running running(spec.spec);
  for (const char* set : {"SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd"})
    EXPECT_EQ(running.status(set), hex(0)) << set;
  ::signal(SIGPIPE, pipe_before);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

TEST(ServiceStart, It_leads_a_session_of_its_own) {
  TestSpec spec(sleeper());
  const Running running(spec.spec);
  const auto stat = read_proc_stat(running.pid());
  ASSERT_TRUE(stat.has_value());
  EXPECT_EQ(stat->session, running.pid());
  EXPECT_EQ(stat->start_ticks, running.service.identity.start_ticks);
}

TEST(ServiceStart, A_program_without_a_slash_is_found_on_the_safe_path_only) {
  const TestDirectory directory;
  directory.write("sleep", "#!/bin/sh\nexit 3\n", 0755);
  TestSpec spec({"sleep", "1000"});
  spec.spec.working_directory = directory.path();
  spec.spec.environment = {"PATH=" + directory.path()};
  const Running running(spec.spec);
  EXPECT_NE(running.link("exe").find("/bin/"), std::string::npos) << running.link("exe");
}

TEST(ServiceStart, A_relative_program_is_the_working_directorys) {
  const TestDirectory directory;
  std::filesystem::create_directory(directory.path("bin"));
  std::filesystem::copy_file("/bin/sleep", directory.path("bin/shop"));
  TestSpec spec({"bin/shop", "1000"});
  spec.spec.working_directory = directory.path();
  const Running running(spec.spec);
  EXPECT_EQ(running.link("exe"), directory.path("bin/shop"));
}

// A supervisor as a forked process; its services are told through a file.
TEST(ServiceStart, The_service_outlives_the_death_of_its_supervisor) {
  const TestDirectory directory;
  const std::string record = directory.path("pid");
  const pid_t supervisor = ::fork();
  if (supervisor == 0) {
    TestSpec spec(sleeper());
    auto started = start_service(spec.spec);
    std::ofstream(record + ".new") << (started ? started->identity.pid : 0);
    std::filesystem::rename(record + ".new", record);
    for (;;) ::pause();
  }
  ASSERT_TRUE(eventually([&] { return std::filesystem::exists(record); }));
  const pid_t pid = std::stoi(slurp(record));
  ASSERT_GT(pid, 0);
  const base::UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  ASSERT_TRUE(pidfd);
  ::kill(supervisor, SIGKILL);
  ::waitpid(supervisor, nullptr, 0);

  const auto stat = read_proc_stat(pid);
  ASSERT_TRUE(stat.has_value());
  EXPECT_NE(stat->parent, supervisor);
  EXPECT_FALSE(readable_within(pidfd.get(), 100)) << "it died with its supervisor";
  ::kill(pid, SIGKILL);
  EXPECT_TRUE(readable_within(pidfd.get()));
}

TEST(ServiceStart, Several_starts_can_be_on_their_way_at_once) {
  TestSpec spec(sleeper());
  TestSpec wrong({"/no/such/program"});
  auto first = ServiceStart::begin(spec.spec);
  auto second = ServiceStart::begin(wrong.spec);
  auto third = ServiceStart::begin(spec.spec);
  ASSERT_TRUE(first && second && third);
  std::vector<StartedService> started;
  for (ServiceStart* start : {&*third, &*first}) {
    for (;;) {
      ASSERT_TRUE(readable_within(start->event_fd()));
      auto answer = start->on_event();
      ASSERT_TRUE(answer.has_value()) << answer.error().line();
      if (!*answer) continue;
      started.push_back(std::move(**answer));
      break;
    }
  }
  ASSERT_TRUE(readable_within(second->event_fd()));
  EXPECT_FALSE(second->on_event().has_value());
  for (StartedService& service : started) {
    auto watch = ProcessWatch::own(service.identity, std::move(service.pidfd));
    EXPECT_TRUE(watch.alive());
    EXPECT_TRUE(watch.send_signal(SIGKILL).value_or(false));
    EXPECT_TRUE(readable_within(watch.event_fd()));
    EXPECT_EQ(watch.on_event().value_or(ProcessEnd{}).signal_number, SIGKILL);
  }
}

TEST(ServiceStart, A_start_that_nobody_waits_for_leaves_nothing_behind) {
  TestSpec spec(sleeper());
  const std::size_t before = own_descriptors();
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(ServiceStart::begin(spec.spec).has_value());
  EXPECT_EQ(own_descriptors(), before);
  EXPECT_LT(::waitpid(-1, nullptr, WNOHANG), 0) << "a child is left";
  EXPECT_EQ(errno, ECHILD);
}

TEST(ServiceStart, Two_hundred_starts_leave_no_descriptor_and_no_child) {
  TestSpec good({"/bin/true"});
  TestSpec bad({"/no/such/program"});
  const base::UniqueFd file(::memfd_create("socket", MFD_CLOEXEC));
  good.spec.descriptors = bad.spec.descriptors = {{"http", file.get()}};
  const auto guard = Guard::build({});
  ASSERT_TRUE(guard.has_value()) << guard.error().line();
  good.spec.guard = &*guard;
  const std::size_t before = own_descriptors();
  for (int i = 0; i < 200; ++i) {
    auto started = start_service(i % 4 == 3 ? bad.spec : good.spec);
    ASSERT_EQ(started.has_value(), i % 4 != 3);
    if (!started) continue;
    auto watch = ProcessWatch::own(started->identity, std::move(started->pidfd));
    ASSERT_TRUE(readable_within(watch.event_fd()));
    ASSERT_EQ(watch.on_event().value_or(ProcessEnd{}).exit_status, 0);
  }
  EXPECT_EQ(own_descriptors(), before);
  EXPECT_LT(::waitpid(-1, nullptr, WNOHANG), 0) << "a child is left";
}

// --- under the guard -----------------------------------------------------------------------------

int exit_status_of(Running& running) {
  auto watch = ProcessWatch::own(running.service.identity, std::move(running.service.pidfd));
  EXPECT_TRUE(readable_within(watch.event_fd()));
  return watch.on_event().value_or(ProcessEnd{}).exit_status;
}

TEST(ServiceStart, The_service_runs_under_one_filter_that_refuses_what_harms_others) {
  const auto guard = Guard::build({});
  ASSERT_TRUE(guard.has_value()) << guard.error().line();
  TestSpec spec({"/proc/self/exe", "--role", "detach"});
  spec.spec.environment = {"ASAN_OPTIONS=detect_leaks=0"};
  {
    Running unguarded(spec.spec);
    EXPECT_NE(exit_status_of(unguarded), EPERM);
  }
  spec.spec.guard = &*guard;
  Running guarded(spec.spec);
  EXPECT_EQ(exit_status_of(guarded), EPERM);

  TestSpec asleep(sleeper());
  asleep.spec.guard = &*guard;
  const Running running(asleep.spec);
  EXPECT_EQ(running.status("Seccomp"), "2");
  EXPECT_FALSE(running.service.bind_listener);
}

// A bind(2) of the service waits for our answer; we let it go on.
void let_bind_go_on(const base::UniqueFd& listener, pid_t pid) {
  seccomp_notif question{};
  ASSERT_EQ(::ioctl(listener.get(), SECCOMP_IOCTL_NOTIF_RECV, &question), 0);
  EXPECT_EQ(question.pid, static_cast<__u32>(pid));
  seccomp_notif_resp answer{};
  answer.id = question.id;
  answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
  ASSERT_EQ(::ioctl(listener.get(), SECCOMP_IOCTL_NOTIF_SEND, &answer), 0);
}

TEST(ServiceStart, With_inject_a_bind_of_any_user_waits_for_our_answer) {
  const auto guard = Guard::build({.intercept_bind = true});
  if (!guard) GTEST_SKIP() << guard.error().line();
  for (const base::Identity& identity : {base::own_identity(), nobody()}) {
    TestSpec spec({"/proc/self/exe", "--role", "bind"});
    spec.spec.environment = {"ASAN_OPTIONS=detect_leaks=0"};
    spec.spec.identity = identity;
    spec.spec.guard = &*guard;
    Running running(spec.spec);
    ASSERT_TRUE(running.service.bind_listener);
    EXPECT_EQ(::fcntl(running.service.bind_listener.get(), F_GETFD), FD_CLOEXEC);
    ASSERT_TRUE(readable_within(running.service.bind_listener.get()));
    let_bind_go_on(running.service.bind_listener, running.pid());
    EXPECT_EQ(exit_status_of(running), 0) << identity.user;
  }
}

}  // namespace
}  // namespace updagent::launch
