// The words of [service] and the numbers that they stand for here.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/release/service.hpp"

namespace updagent::release {

std::string_view protocol_name(Protocol protocol);
std::optional<Protocol> parse_protocol(std::string_view text);
std::string_view ready_name(Ready ready);
std::optional<Ready> parse_ready(std::string_view text);
std::string_view crash_loop_name(CrashLoop what);
std::optional<CrashLoop> parse_crash_loop(std::string_view text);

// "SIGTERM" and the others that a server can answer by stopping or reloading: none that can't be
// caught. "" and nothing for all others.
std::string_view signal_name(int signal);
std::optional<int> parse_signal(std::string_view text);

// CAP_CHOWN is 0 (linux/capability.h); those of Linux 5.9 and later, 41.
std::optional<int> capability_number(std::string_view name);
// RLIMIT_NOFILE of "nofile".
std::optional<int> rlimit_resource(std::string_view name);
// Whether the limit of this name may be `value`, kUnlimited included; a number fits JSON.
bool is_rlimit(std::string_view name, std::uint64_t value);

// Every word, for "expected one of" and "did you mean".
std::vector<std::string> protocol_names();
std::vector<std::string> ready_names();
std::vector<std::string> crash_loop_names();
std::vector<std::string> signal_names();
std::vector<std::string> capability_names();
std::vector<std::string> rlimit_names();

}  // namespace updagent::release
