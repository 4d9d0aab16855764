#include "agent/launch/start_failure.hpp"

#include <sys/xattr.h>

#include <array>
#include <cerrno>
#include <utility>

#include "agent/base/child_process.hpp"
#include "agent/base/start_error.hpp"
#include "agent/launch/limits.hpp"

namespace updagent::launch {
namespace {

namespace keeper = base::keeper;

std::string cannot_start(const ServiceSpec& spec) {
  return "cannot start '" + spec.argv.front() + "'";
}

base::Error failed_at(const ServiceSpec& spec, const StartProgress& progress,
                      const std::string& what) {
  return base::system_error(progress.errno_value, cannot_start(spec) + ": " + what);
}

std::string words_of(const StartProgress& progress) {
  return std::string(step_words(progress.step));
}

// The steps that commands of hooks have too: one wording for both.
base::Error as_of_a_command(const ServiceSpec& spec, const std::vector<std::string>& candidates,
                            keeper::Step step, const StartProgress& progress) {
  base::ChildSpec command;
  command.argv = spec.argv;
  command.working_directory = spec.working_directory;
  command.identity = spec.identity;
  const int candidate =
      progress.detail == kNoDetail ? keeper::kNoCandidate : progress.detail.load();
  return base::start_error(command, candidates, {step, progress.errno_value, candidate});
}

std::string descriptor_words(const ServiceSpec& spec, int target) {
  static constexpr std::array<const char*, 3> kStandard = {"stdin", "stdout", "stderr"};
  if (target >= 0 && target < 3) return kStandard[static_cast<std::size_t>(target)];
  const auto index = static_cast<std::size_t>(target - 3);
  if (index >= spec.descriptors.size()) return "the channel to the supervisor";
  return "descriptor " + std::to_string(target) + " ('" + spec.descriptors[index].name + "')";
}

std::string limit_words(const ServiceSpec& spec, int resource) {
  for (const ResourceLimit& limit : spec.limits)
    if (limit.resource == resource)
      return "setting its limit '" + resource_name(resource) + "' to " +
             std::to_string(limit.soft) + " (hard " + std::to_string(limit.hard) + ")";
  return "setting its limits";
}

base::Error guard_failed(const ServiceSpec& spec, const StartProgress& progress) {
  base::Error error = failed_at(spec, progress, words_of(progress));
  if (progress.errno_value != EBUSY) return error;
  return std::move(error)
      .expected("to be the first whose seccomp filter has a notify listener")
      .got("a filter above us, of a container or of another supervisor, has one already")
      .hint("protocol inject can't work here: use systemd, nginx or env, or run updagent outside");
}

base::Error exec_failed(const ServiceSpec& spec, const std::vector<std::string>& candidates,
                        const StartProgress& progress) {
  base::Error error = as_of_a_command(spec, candidates, keeper::Step::exec, progress);
  if (progress.errno_value == EAGAIN)
    return std::move(error).hint("its user has as many processes as its limit 'nproc' allows");
  if (progress.errno_value != EPERM || progress.detail == kNoDetail) return error;
  const std::string& program = candidates[static_cast<std::size_t>(progress.detail.load())];
  const std::string path =
      program.starts_with('/') ? program : spec.working_directory + "/" + program;
  if (::getxattr(path.c_str(), "security.capability", nullptr, 0) <= 0) return error;
  return std::move(error).hint(
      "the file carries capabilities (getcap '" + path +
      "') that this service isn't given: take them off (setcap -r), or allow them for the app");
}

}  // namespace

std::string_view step_words(StartStep step) {
  switch (step) {
    case StartStep::join_cgroup:
      return "joining its cgroup";
    case StartStep::new_session:
      return "making a session (setsid)";
    case StartStep::signals:
      return "resetting signals";
    case StartStep::descriptors:
      return "placing its descriptors";
    case StartStep::close_others:
      return "closing our descriptors (close_range)";
    case StartStep::oom_score:
      return "setting its oom_score_adj";
    case StartStep::limits:
      return "setting its limits";
    case StartStep::bounding_set:
      return "dropping capabilities from the bounding set";
    case StartStep::groups:
      return "setting its groups (setgroups)";
    case StartStep::gid:
      return "setting its group (setresgid)";
    case StartStep::uid:
      return "becoming its user (setresuid)";
    case StartStep::capabilities:
      return "setting its capabilities (capset)";
    case StartStep::ambient_set:
      return "raising its ambient capabilities";
    case StartStep::no_new_privs:
      return "setting no_new_privs";
    case StartStep::working_directory:
      return "entering its working directory";
    case StartStep::guard:
      return "installing its seccomp filter";
    case StartStep::send_listener:
      return "sending the seccomp notify listener";
    case StartStep::exec:
      return "running its program (execve)";
  }
  return "starting";
}

base::Error start_failed(const ServiceSpec& spec, const std::vector<std::string>& candidates,
                         const StartProgress& progress) {
  switch (progress.step.load()) {
    case StartStep::groups:
      return as_of_a_command(spec, candidates, keeper::Step::groups, progress);
    case StartStep::gid:
      return as_of_a_command(spec, candidates, keeper::Step::gid, progress);
    case StartStep::uid:
      return as_of_a_command(spec, candidates, keeper::Step::uid, progress);
    case StartStep::working_directory:
      return as_of_a_command(spec, candidates, keeper::Step::working_directory, progress);
    case StartStep::exec:
      return exec_failed(spec, candidates, progress);
    case StartStep::guard:
      return guard_failed(spec, progress);
    case StartStep::descriptors:
      return failed_at(spec, progress,
                       words_of(progress) + ": " + descriptor_words(spec, progress.detail));
    case StartStep::limits:
      return failed_at(spec, progress, limit_words(spec, progress.detail));
    case StartStep::bounding_set:
    case StartStep::ambient_set:
      return failed_at(
          spec, progress,
          words_of(progress) + ": " + capability_names(capability_bit(progress.detail)));
    case StartStep::oom_score:
      return failed_at(
          spec, progress,
          words_of(progress) + " to " + std::to_string(spec.oom_score_adj.value_or(0)));
    case StartStep::capabilities:
      return failed_at(spec, progress,
                       words_of(progress) + " to " +
                           capability_names(spec.capabilities.value_or(kNoCapabilities)));
    case StartStep::join_cgroup:
    case StartStep::new_session:
    case StartStep::signals:
    case StartStep::close_others:
    case StartStep::no_new_privs:
    case StartStep::send_listener:
      return failed_at(spec, progress, words_of(progress));
  }
  return {base::Code::internal, cannot_start(spec) + " for an unknown reason"};
}

base::Error died_on_the_way(const ServiceSpec& spec, StartStep step, const ProcessEnd& end) {
  return base::Error(base::Code::io_error, cannot_start(spec) + ": it ended while " +
                                               std::string(step_words(step)) +
                                               ", before its program ran")
      .got(end.describe())
      .hint(
          "something outside ended it: the kernel for want of memory, a seccomp filter of a "
          "container, or a person");
}

base::Error hung_on_the_way(const ServiceSpec& spec, StartStep step) {
  return base::Error(base::Code::timed_out, cannot_start(spec) + ": it did not get past " +
                                                std::string(step_words(step)) + ", and was killed")
      .hint("its program or working directory may be on a file system that doesn't answer");
}

}  // namespace updagent::launch
