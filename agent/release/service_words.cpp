#include "agent/release/service_words.hpp"

#include <sys/resource.h>

#include <array>
#include <csignal>

#include "agent/base/capability_names.hpp"
#include "agent/release/word_list.hpp"

namespace updagent::release {
namespace {

constexpr std::array<Word<Protocol>, 4> kProtocols = {{{"env", Protocol::env},
                                                       {"inject", Protocol::inject},
                                                       {"nginx", Protocol::nginx},
                                                       {"systemd", Protocol::systemd}}};
constexpr std::array<Word<Ready>, 3> kReadies = {
    {{"listening", Ready::listening}, {"notify", Ready::notify}, {"probe", Ready::probe}}};
constexpr std::array<Word<CrashLoop>, 2> kCrashLoops = {
    {{"restart", CrashLoop::restart}, {"rollback", CrashLoop::rollback}}};
constexpr std::array<Word<int>, 7> kSignals = {{{"SIGHUP", SIGHUP},
                                                {"SIGINT", SIGINT},
                                                {"SIGQUIT", SIGQUIT},
                                                {"SIGTERM", SIGTERM},
                                                {"SIGUSR1", SIGUSR1},
                                                {"SIGUSR2", SIGUSR2},
                                                {"SIGWINCH", SIGWINCH}}};
// glibc's RLIMIT_* are enumerators of a type of their own in C++.
constexpr std::array<Word<int>, 8> kRlimits = {{{"as", static_cast<int>(RLIMIT_AS)},
                                                {"core", static_cast<int>(RLIMIT_CORE)},
                                                {"data", static_cast<int>(RLIMIT_DATA)},
                                                {"fsize", static_cast<int>(RLIMIT_FSIZE)},
                                                {"memlock", static_cast<int>(RLIMIT_MEMLOCK)},
                                                {"nofile", static_cast<int>(RLIMIT_NOFILE)},
                                                {"nproc", static_cast<int>(RLIMIT_NPROC)},
                                                {"stack", static_cast<int>(RLIMIT_STACK)}}};

}  // namespace

std::string_view protocol_name(Protocol protocol) {
  return name_of(kProtocols, protocol);
}
std::optional<Protocol> parse_protocol(std::string_view text) {
  return value_of(kProtocols, text);
}
std::string_view ready_name(Ready ready) {
  return name_of(kReadies, ready);
}
std::optional<Ready> parse_ready(std::string_view text) {
  return value_of(kReadies, text);
}
std::string_view crash_loop_name(CrashLoop what) {
  return name_of(kCrashLoops, what);
}
std::optional<CrashLoop> parse_crash_loop(std::string_view text) {
  return value_of(kCrashLoops, text);
}
std::string_view signal_name(int signal) {
  return name_of(kSignals, signal);
}
std::optional<int> parse_signal(std::string_view text) {
  return value_of(kSignals, text);
}
std::optional<int> rlimit_resource(std::string_view name) {
  return value_of(kRlimits, name);
}
std::optional<int> capability_number(std::string_view name) {
  return base::capability_number(name);
}

bool is_rlimit(std::string_view name, std::uint64_t value) {
  constexpr std::uint64_t kMaxNumber = std::uint64_t{1} << 53;  // base::kMaxJsonInteger
  if (!rlimit_resource(name)) return false;
  if (name == "nofile") return value >= kLeastOpenFiles && value <= kMostOpenFiles;
  return value == kUnlimited || value <= kMaxNumber;
}

std::vector<std::string> protocol_names() {
  return names_of(kProtocols);
}
std::vector<std::string> ready_names() {
  return names_of(kReadies);
}
std::vector<std::string> crash_loop_names() {
  return names_of(kCrashLoops);
}
std::vector<std::string> signal_names() {
  return names_of(kSignals);
}
std::vector<std::string> rlimit_names() {
  return names_of(kRlimits);
}
std::vector<std::string> capability_names() {
  return {base::kCapabilityNames.begin(), base::kCapabilityNames.end()};
}

Ready default_ready(Protocol protocol) {
  return protocol == Protocol::systemd ? Ready::notify : Ready::listening;
}
int default_stop_signal(Protocol protocol) {
  return protocol == Protocol::nginx ? SIGQUIT : SIGTERM;
}

}  // namespace updagent::release
