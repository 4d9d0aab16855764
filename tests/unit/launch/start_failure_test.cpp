#include "agent/launch/start_failure.hpp"

#include <linux/capability.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#include <cerrno>
#include <set>

#include "tests/unit/launch/launch_support.hpp"

namespace updagent::launch {
namespace {

using test::TestDirectory;

base::Error refusal(const ServiceSpec& spec) {
  auto started = start_service(spec);
  EXPECT_FALSE(started.has_value()) << "it started";
  if (started) return {base::Code::internal, "it started"};
  return started.error();
}

// What the start says in a process whose system call `number` (with that first argument, if one is
// given) has `action`: the child of the start inherits it.
std::string start_with(std::uint32_t action, int number, std::optional<std::uint64_t> first,
                       const ServiceSpec& spec) {
  return said_in_child([&] {
    scmp_filter_ctx filter = ::seccomp_init(SCMP_ACT_ALLOW);
    const scmp_arg_cmp argument = {0, SCMP_CMP_EQ, first.value_or(0), 0};
    if (::seccomp_rule_add_array(filter, action, number, first ? 1 : 0, &argument) != 0 ||
        ::seccomp_load(filter) != 0)
      return std::string("no filter");
    return line_of(start_service(spec));
  });
}

struct FailingStep {
  const char* name;
  int number;
  std::optional<std::uint64_t> first;
  int errno_value;
  const char* words;
};

class Failing : public ::testing::TestWithParam<FailingStep> {};

TEST_P(Failing, Step_is_named_with_its_reason) {
  const FailingStep& step = GetParam();
  const auto guard = Guard::build({.intercept_bind = true});
  ASSERT_TRUE(guard.has_value()) << guard.error().line();
  TestSpec spec(sleeper());
  spec.spec.identity = nobody();
  spec.spec.capabilities = capability_bit(CAP_KILL);
  spec.spec.guard = &*guard;
  const std::string said = start_with(SCMP_ACT_ERRNO(static_cast<std::uint16_t>(step.errno_value)),
                                      step.number, step.first, spec.spec);
  EXPECT_TRUE(said.starts_with("cannot start '/bin/sleep': ") || said.starts_with("cannot "))
      << said;
  EXPECT_NE(said.find(step.words), std::string::npos) << said;
  EXPECT_NE(said.find(strerrordesc_np(step.errno_value)), std::string::npos) << said;
}

INSTANTIATE_TEST_SUITE_P(
    Each, Failing,
    ::testing::Values(
        FailingStep{"session", SCMP_SYS(setsid), {}, EPERM, "making a session (setsid)"},
        FailingStep{"signals", SCMP_SYS(rt_sigprocmask), {}, EINVAL, "resetting signals"},
        FailingStep{"dup3", SCMP_SYS(dup3), {}, EMFILE, "placing its descriptors"},
        FailingStep{"dup2", SCMP_SYS(dup2), {}, EBUSY, "placing its descriptors: stdin"},
        FailingStep{"close", SCMP_SYS(close_range), {}, ENOSYS, "closing our descriptors"},
        FailingStep{"bounding", SCMP_SYS(prctl), PR_CAPBSET_DROP, EPERM,
                    "dropping capabilities from the bounding set: CAP_CHOWN"},
        FailingStep{"groups", SCMP_SYS(setgroups), {}, EPERM, "user 'nobody' (setgroups)"},
        FailingStep{"gid", SCMP_SYS(setresgid), {}, EPERM, "user 'nobody' (setresgid)"},
        FailingStep{"uid", SCMP_SYS(setresuid), {}, EAGAIN, "user 'nobody' (setresuid)"},
        FailingStep{"keepcaps", SCMP_SYS(prctl), PR_SET_KEEPCAPS, EPERM, "(setresuid)"},
        FailingStep{
            "capset", SCMP_SYS(capset), {}, EPERM, "setting its capabilities (capset) to CAP_KILL"},
        FailingStep{"ambient", SCMP_SYS(prctl), PR_CAP_AMBIENT, EINVAL, "ambient capabilities"},
        FailingStep{"nnp", SCMP_SYS(prctl), PR_SET_NO_NEW_PRIVS, EINVAL, "setting no_new_privs"},
        FailingStep{
            "folder", SCMP_SYS(chdir), {}, ESTALE, "cannot enter the working directory '/'"},
        FailingStep{"seccomp", SCMP_SYS(seccomp), {}, ENOSYS, "installing its seccomp filter"},
        FailingStep{
            "sendmsg", SCMP_SYS(sendmsg), {}, ENOBUFS, "sending the seccomp notify listener"},
        FailingStep{"execve", SCMP_SYS(execve), {}, ETXTBSY, "cannot run '/bin/sleep'"}),
    [](const auto& step) { return std::string(step.param.name); });

TEST(StartFailure, Every_step_has_words_of_its_own) {
  std::set<std::string_view> words;
  for (int step = 0; step < kStartSteps; ++step)
    words.insert(step_words(static_cast<StartStep>(step)));
  EXPECT_EQ(words.size(), static_cast<std::size_t>(kStartSteps));
  EXPECT_FALSE(words.contains(""));
}

TEST(StartFailure, A_death_on_the_way_is_not_taken_for_a_crash_of_the_service) {
  const TestSpec spec(sleeper());
  const std::string said = start_with(SCMP_ACT_KILL_PROCESS, SCMP_SYS(capset), {}, spec.spec);
  EXPECT_NE(said.find("it ended while setting its capabilities (capset), before its program ran"),
            std::string::npos)
      << said;
  EXPECT_NE(said.find("killed by signal 31 (SYS)"), std::string::npos) << said;
}

TEST(StartFailure, A_start_that_hangs_is_killed_and_says_in_what) {
  const TestSpec spec(sleeper());
  const std::string said = said_in_child([&] {
    scmp_filter_ctx filter = ::seccomp_init(SCMP_ACT_ALLOW);
    if (::seccomp_rule_add(filter, SCMP_ACT_NOTIFY, SCMP_SYS(chdir), 0) != 0 ||
        ::seccomp_load(filter) != 0)
      return std::string("no filter");
    // nobody answers the question
    const base::UniqueFd listener(::seccomp_notify_fd(filter));
    auto start = ServiceStart::begin(spec.spec);
    if (!start) return start.error().line();
    if (!readable_within(listener.get())) return std::string("it never came to chdir");
    if (auto answer = start->on_event(); !answer || *answer) return std::string("it ended");
    const base::Error error = start->give_up();
    const bool child_left = ::waitpid(-1, nullptr, WNOHANG) >= 0;
    return std::string(error.code_name()) + " " + error.line() + (child_left ? " CHILD LEFT" : "");
  });
  EXPECT_EQ(said,
            "timed_out cannot start '/bin/sleep': it did not get past entering its working "
            "directory, and was killed");
}

TEST(StartFailure, A_filter_above_us_that_has_a_listener_is_named) {
  const auto guard = Guard::build({.intercept_bind = true});
  ASSERT_TRUE(guard.has_value()) << guard.error().line();
  TestSpec spec(sleeper());
  spec.spec.guard = &*guard;
  const std::string said = said_in_child([&] {
    ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    const base::UniqueFd above(guard->install());
    return line_of(start_service(spec.spec));
  });
  EXPECT_NE(said.find("installing its seccomp filter: Device or resource busy"), std::string::npos)
      << said;
  EXPECT_NE(said.find("a container or of another supervisor, has one already"), std::string::npos)
      << said;
  EXPECT_NE(said.find("protocol inject can't work here"), std::string::npos) << said;
}

// A sandbox without clone3(2), and a folder that is no cgroup.
TEST(StartFailure, A_cgroup_that_can_t_be_joined_is_named) {
  const TestDirectory directory;
  const base::UniqueFd folder(::open(directory.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  TestSpec spec(sleeper());
  spec.spec.cgroup_fd = folder.get();
  EXPECT_NE(refusal(spec.spec).line().find("joining its cgroup: No such file"), std::string::npos);
}

TEST(StartFailure, A_descriptor_that_is_not_open_is_named) {
  TestSpec spec(sleeper());
  spec.spec.descriptors = {{"http", spec.spec.stdout_fd}, {"https", 4000}};
  EXPECT_EQ(refusal(spec.spec).line(),
            "cannot start '/bin/sleep': placing its descriptors: descriptor 4 ('https'): Bad file "
            "descriptor");
}

TEST(StartFailure, A_limit_and_an_oom_score_that_can_t_be_set_are_named) {
  TestSpec spec(sleeper());
  spec.spec.limits = {{RLIMIT_CORE, 0, 0}, {RLIMIT_NPROC, 20, 10}};
  EXPECT_EQ(
      refusal(spec.spec).line(),
      "cannot start '/bin/sleep': setting its limit 'nproc' to 20 (hard 10): Invalid argument");
  spec.spec.limits = {};
  spec.spec.oom_score_adj = 5000;
  EXPECT_EQ(refusal(spec.spec).line(),
            "cannot start '/bin/sleep': setting its oom_score_adj to 5000: Invalid argument");
}

TEST(StartFailure, Limits_have_the_names_of_setrlimit) {
  EXPECT_EQ(resource_name(RLIMIT_NOFILE), "nofile");
  EXPECT_EQ(resource_name(RLIMIT_RTTIME), "rttime");
  EXPECT_EQ(resource_name(99), "99");
}

TEST(StartFailure, A_folder_that_the_user_may_not_enter_is_named_with_the_user) {
  const TestDirectory directory;
  std::filesystem::create_directory(directory.path("secret"));
  ::chmod(directory.path("secret").c_str(), 0700);
  TestSpec spec(sleeper());
  spec.spec.identity = nobody();
  spec.spec.working_directory = directory.path("secret");
  const std::string line = refusal(spec.spec).line();
  EXPECT_NE(line.find("secret' as user 'nobody': Permission denied"), std::string::npos) << line;
}

TEST(StartFailure, Programs_that_can_t_run_say_why) {
  const TestDirectory directory;
  directory.write("plain", "#!/bin/sh\n", 0644);
  directory.write("script", "#!/no/such/interpreter\n", 0755);
  directory.write("text", "hello\n", 0755);
  const auto said = [&](const std::string& program) {
    TestSpec spec({program});
    spec.spec.working_directory = directory.path();
    const base::Error error = refusal(spec.spec);
    return error.line() + " | " + error.hint();
  };
  EXPECT_NE(said("./missing").find("cannot run './missing': No such file"), std::string::npos);
  EXPECT_NE(said("no-such-program").find("expected a program of that name in /usr/local/sbin"),
            std::string::npos);
  EXPECT_NE(said("./plain").find("it must be an executable file"), std::string::npos);
  EXPECT_NE(said("./script").find("'/no/such/interpreter'"), std::string::npos);
  EXPECT_NE(said("./text").find("neither a program for this machine"), std::string::npos);
}

// setcap cap_net_bind_service+ep: the kernel refuses to run it when the bounding set lacks that.
TEST(StartFailure, A_program_with_file_capabilities_that_it_isn_t_given_is_explained) {
  const TestDirectory directory;
  std::filesystem::copy_file("/bin/sleep", directory.path("sleep"));
  vfs_cap_data data{};
  data.magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE;
  data.data[0].permitted = 1U << CAP_NET_BIND_SERVICE;
  if (::setxattr(directory.path("sleep").c_str(), "security.capability", &data, XATTR_CAPS_SZ_2,
                 0) != 0)
    GTEST_SKIP() << "no file capabilities here";
  TestSpec spec({"./sleep", "1000"});
  spec.spec.identity = nobody();
  spec.spec.working_directory = directory.path();
  const base::Error error = refusal(spec.spec);
  EXPECT_NE(error.line().find("Operation not permitted"), std::string::npos) << error.line();
  EXPECT_NE(error.hint().find("setcap -r"), std::string::npos) << error.hint();

  spec.spec.capabilities = capability_bit(CAP_NET_BIND_SERVICE);
  const Running running(spec.spec);
  EXPECT_EQ(running.status("CapEff"), "0000000000000400");
}

TEST(StartFailure, What_can_be_seen_beforehand_is_refused_beforehand) {
  const auto said = [](const std::function<void(ServiceSpec&)>& change) {
    TestSpec spec(sleeper());
    change(spec.spec);
    const base::Error error = refusal(spec.spec);
    EXPECT_EQ(error.code(), base::Code::config_invalid) << error.line();
    return error.line();
  };
  EXPECT_NE(said([](auto& s) { s.argv = {}; }).find("without a command"), std::string::npos);
  EXPECT_NE(said([](auto& s) { s.working_directory = "bin"; }).find("absolute"), std::string::npos);
  EXPECT_NE(said([](auto& s) { s.argv.push_back(std::string("a\0b", 3)); }).find("NUL"),
            std::string::npos);
  EXPECT_NE(said([](auto& s) { s.environment = {"A=1", "A=2"}; }).find("'A' is there twice"),
            std::string::npos);
  EXPECT_NE(said([](auto& s) {
              s.environment = {"LISTEN_PID=1"};
              s.pid_variables = {"LISTEN_PID"};
            }).find("'LISTEN_PID' is there twice"),
            std::string::npos);
  EXPECT_NE(said([](auto& s) { s.environment = {"=1"}; }).find("not NAME=value"),
            std::string::npos);
  EXPECT_NE(said([](auto& s) { s.stdout_fd = -1; }).find("no stdout"), std::string::npos);
  EXPECT_NE(said([](auto& s) {
              s.limits = {{RLIMIT_NOFILE, 3, 3}};
              s.descriptors = {{"http", s.stdout_fd}};
            }).find("(expected at least 4, got 3)"),
            std::string::npos);
  EXPECT_NE(said([](auto& s) { s.descriptors.resize(254); }).find("at most 253"),
            std::string::npos);
}

TEST(StartFailure, Capabilities_that_we_lack_ourselves_are_refused_by_name) {
  TestSpec spec(sleeper());
  spec.spec.identity = nobody();
  spec.spec.capabilities = capability_bit(60);
  EXPECT_NE(refusal(spec.spec).line().find("(got capability 60)"), std::string::npos);
}

}  // namespace
}  // namespace updagent::launch
