// A service is not trusted: any datagram must end in a message or an error, with every value within
// its bounds and nothing in it that could drive a terminal.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "agent/base/text.hpp"
#include "agent/launch/notify_message.hpp"

namespace {

namespace launch = updagent::launch;

void must(bool condition) {
  if (!condition) std::abort();
}

bool is_quiet(std::string_view text) {
  return updagent::base::is_valid_utf8(text) && updagent::base::printable(text) == text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto message = launch::parse_notify_message(text);
  if (!message) {
    must(!message.error().line().empty());
    return 0;
  }
  must(size <= launch::kMaxNotifyBytes);
  if (message->status) must(message->status->size() <= launch::kMaxStatusBytes);
  if (message->status) must(is_quiet(*message->status));
  if (message->main_pid) must(*message->main_pid > 0);
  if (message->errno_value) must(*message->errno_value >= 0 && *message->errno_value <= 4095);
  if (message->watchdog_usec) must(*message->watchdog_usec <= launch::kMaxWatchdogUsec);
  if (message->extend_timeout_usec) must(*message->extend_timeout_usec <= launch::kMaxExtendUsec);
  must(message->store_name.empty() || launch::is_store_name(message->store_name));
  must(!message->store_remove || !message->store_name.empty());
  must(message->malformed.size() <= launch::kMaxNotifyLines + 1);
  must(std::ranges::all_of(message->malformed, is_quiet));
  // A barrier releases its sender, so nothing else may ride along.
  must(!message->barrier || (message->lifecycle == launch::Lifecycle::unchanged &&
                             !message->store && !message->main_pid && !message->status));
  return 0;
}
