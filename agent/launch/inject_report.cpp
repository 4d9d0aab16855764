#include "agent/launch/inject_report.hpp"

#include <cerrno>

namespace updagent::launch {
namespace {

const char* step_text(TargetStep step) {
  switch (step) {
    case TargetStep::none:
      return "finish";
    case TargetStep::reach_process:
      return "reach";
    case TargetStep::read_address:
      return "read the address that is bound by";
    case TargetStep::copy_socket:
      return "look at the socket of";
    case TargetStep::compare_options:
      return "compare the socket options of";
    case TargetStep::set_flags:
      return "set the flags for";
    case TargetStep::replace:
      return "replace the socket of";
    case TargetStep::answer:
      return "answer";
  }
  return "serve";
}

std::string count_text(std::uint32_t count) {
  return count == 1 ? "an epoll registration" : std::to_string(count) + " epoll registrations";
}

}  // namespace

base::Error inject_problem(pid_t thread, const Outcome& outcome) {
  const std::string what =
      "cannot " + std::string(step_text(outcome.step)) + " process " + std::to_string(thread);
  if (outcome.progress == Progress::pending)
    return base::Error(base::Code::timed_out, what + ": it took too long, or was killed")
        .hint("the service may keep us from reading its memory; look at what it maps");
  base::Error error = base::system_error(outcome.errno_value, what);
  if (outcome.errno_value != EPERM && outcome.errno_value != EACCES) return error;
  return std::move(error).hint(
      "protocol 'inject' looks into the service: the supervisor needs CAP_SYS_PTRACE, or must run "
      "as the service's user with kernel.yama.ptrace_scope of at most 1");
}

std::vector<std::string> replacement_notes(const Replacement& replacement) {
  std::vector<std::string> notes;
  const auto rows = option_table();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::string name = rows[i].name;
    if (replacement.options[i] == OptionOutcome::kept)
      notes.push_back(name + " is not taken over: it " + rows[i].reason);
    if (replacement.options[i] == OptionOutcome::refused)
      notes.push_back(name + " could not be set on the listener");
  }
  if (replacement.signals_lost)
    notes.emplace_back("O_ASYNC is not taken over: no SIGIO will come for this socket");
  if (replacement.epolls_moved > 0)
    notes.push_back(count_text(replacement.epolls_moved) +
                    " made before bind was made again on the listener");
  if (replacement.epolls_lost > 0)
    notes.push_back(count_text(replacement.epolls_lost) +
                    " made before bind is lost: the service will not hear of connections there");
  return notes;
}

std::string misfit_note(const BindMatch& match, std::span<const InjectListener> listeners) {
  switch (match.fit) {
    case Fit::none:
    case Fit::ours:
      return "";
    case Fit::divided:
      return "several listeners are parts of this address and one socket can't stand for them: "
             "let the service bind each, or declare one listener";
    case Fit::too_open:
      return "listener '" + listeners[match.listener].name + "' (" +
             listener_text(listeners[match.listener]) +
             ") is open to more than the service asks for: declare what it binds";
  }
  return "";
}

std::string listener_text(const InjectListener& listener) {
  return bind_text(listener.address, listener.address_length, listener.type);
}

}  // namespace updagent::launch
