#include "agent/base/start_error.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <optional>

#include "agent/base/guarded_file.hpp"
#include "agent/base/text.hpp"
#include "agent/base/unique_fd.hpp"

namespace updagent::base {
namespace {

constexpr std::size_t kFirstLineBytes = 256;  // BINPRM_BUF_SIZE: the kernel reads no more of "#!"

std::string who(const ChildSpec& spec) {
  if (!spec.identity) return "this user";
  if (!spec.identity->user.empty()) return "user '" + spec.identity->user + "'";
  return "uid " + std::to_string(spec.identity->uid);
}

// The first bytes of the program, as far as this process may read it.
std::optional<std::string> head_of(const ChildSpec& spec, const std::string& program) {
  const bool relative = !program.starts_with('/') && !spec.working_directory.empty();
  const std::string path = relative ? spec.working_directory + "/" + program : program;
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file) return std::nullopt;
  std::array<char, kFirstLineBytes> bytes{};
  const ssize_t count = ::read(file.get(), bytes.data(), bytes.size());
  if (count < 0) return std::nullopt;
  return std::string(bytes.data(), static_cast<std::size_t>(count));
}

// "#! /usr/bin/env python3" names /usr/bin/env.
std::string interpreter_of(std::string_view head) {
  head.remove_prefix(2);
  head = head.substr(0, head.find('\n'));
  const std::size_t start = head.find_first_not_of(" \t");
  if (start == std::string_view::npos) return "";
  head.remove_prefix(start);
  return std::string(head.substr(0, head.find_first_of(" \t")));
}

// The program is there, and still the kernel says that something is not: what it needs to run.
Error missing_interpreter(const ChildSpec& spec, const std::string& program, Error error) {
  const auto head = head_of(spec, program);
  if (!head) return error;
  if (head->starts_with("#!")) {
    std::string interpreter = interpreter_of(*head);
    const bool carriage_return = interpreter.ends_with('\r');
    interpreter = printable(interpreter);
    return std::move(error)
        .expected("the interpreter '" + interpreter + "' of its first line")
        .got("no such file")
        .hint(carriage_return
                  ? "the first line ends in a carriage return: save it with Unix line ends"
                  : "install '" + interpreter + "' on this node, or correct the '#!' line");
  }
  return std::move(error)
      .expected("the dynamic loader that it was linked for")
      .got("no such file")
      .hint(
          "it was built for another C library or architecture: link it statically or build it for "
          "this system");
}

Error exec_error(const ChildSpec& spec, const std::vector<std::string>& candidates,
                 const keeper::StartFailure& failure) {
  const std::string& name = spec.argv.front();
  if (failure.candidate == keeper::kNoCandidate) {
    Error error = system_error(failure.errno_value, "cannot run '" + name + "'");
    if (name.find('/') == std::string::npos)
      return std::move(error)
          .expected("a program of that name in " + std::string(kSafePath))
          .hint("give a path with a '/', relative to the release's root or absolute");
    return std::move(error).hint(name.starts_with('/')
                                     ? "install it on this node, or correct the path"
                                     : "the path is relative to '" + spec.working_directory + "'");
  }
  const std::string& program = candidates[static_cast<std::size_t>(failure.candidate)];
  Error error = system_error(failure.errno_value, "cannot run '" + program + "'");
  if (failure.errno_value == ENOENT) return missing_interpreter(spec, program, std::move(error));
  if (failure.errno_value == EACCES)
    return std::move(error).hint(
        "it must be an executable file (chmod +x before packing), in directories that " +
        who(spec) + " may enter, on a file system without noexec");
  if (failure.errno_value == ENOEXEC)
    return std::move(error).hint(
        "it is neither a program for this machine nor a script with a '#!' line");
  if (failure.errno_value == E2BIG)
    return std::move(error).hint("its arguments and environment together are too long");
  return error;
}

Error identity_error(const ChildSpec& spec, const char* call, int errno_value) {
  const Error plain = system_error(errno_value, "cannot become " + who(spec) + " (" + call + ")");
  return Error(errno_value == EPERM ? Code::config_invalid : plain.code(), plain.message())
      .hint("only root may run commands as another user");
}

// The folder that is closed is often far above the one that was asked for: a home, a mktemp -d.
Error directory_error(const ChildSpec& spec, int errno_value) {
  Error error = system_error(errno_value, "cannot enter the working directory '" +
                                              spec.working_directory + "' as " + who(spec));
  const std::string closed = spec.identity && errno_value == EACCES
                                 ? folder_closed_to(*spec.identity, spec.working_directory)
                                 : "";
  if (closed.empty())
    return std::move(error).hint("it must exist, and " + who(spec) +
                                 " must be allowed to enter it");
  return std::move(error)
      .got("a folder that it may not pass: '" + closed + "'")
      .hint("chmod o+x " + shell_quoted(closed));
}

}  // namespace

Error start_error(const ChildSpec& spec, const std::vector<std::string>& candidates,
                  const keeper::StartFailure& failure) {
  const auto system = [&](const char* what) {
    return system_error(failure.errno_value, "cannot start '" + spec.argv.front() + "': " + what);
  };
  switch (failure.step) {
    case keeper::Step::none:
      break;
    case keeper::Step::close_descriptors:
      return system("close_range");
    case keeper::Step::new_session:
      return system("setsid");
    case keeper::Step::subreaper:
      return system("prctl(PR_SET_CHILD_SUBREAPER)");
    case keeper::Step::signals:
      return system("signalfd");
    case keeper::Step::fork_command:
      return system("fork");
    case keeper::Step::redirect:
      return system("dup2");
    case keeper::Step::groups:
      return identity_error(spec, "setgroups", failure.errno_value);
    case keeper::Step::gid:
      return identity_error(spec, "setresgid", failure.errno_value);
    case keeper::Step::uid:
      return identity_error(spec, "setresuid", failure.errno_value);
    case keeper::Step::no_new_privs:
      return system("prctl(PR_SET_NO_NEW_PRIVS)");
    case keeper::Step::working_directory:
      return directory_error(spec, failure.errno_value);
    case keeper::Step::exec:
      return exec_error(spec, candidates, failure);
  }
  return {Code::internal, "cannot start '" + spec.argv.front() + "' for an unknown reason"};
}

}  // namespace updagent::base
