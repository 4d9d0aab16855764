// What the unit's systemd is told: sd_notify(3), the sender's side.
#pragma once

#include <string_view>

namespace updagent::service {

// Where NOTIFY_SOCKET names a socket; elsewhere, and when systemd does not take it, nothing
// happens: nobody waits for an answer.
void tell_systemd(std::string_view state);
// It is told: this is the main process of a unit.
bool is_unit();

}  // namespace updagent::service
