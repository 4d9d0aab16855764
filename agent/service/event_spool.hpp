// What the supervisor has to say for the journal: a file per event in the node's spool, which
// whoever opens the journal next imports (agent/journal/spool_format.hpp has the format). The
// supervisor waits neither for the database nor for the disk.
#pragma once

#include <string>
#include <string_view>

#include "agent/base/strict_json.hpp"

namespace updagent::service {

// Of a tmpfs: a service in a crash loop on a node that nobody looks at must not fill it.
inline constexpr std::size_t kMaxWaitingEvents = 2'000;

struct SpooledEvent {
  std::string_view name;  // of journal's event_names.hpp
  std::string_view status = "success";
  std::string trace_id;  // of the deployment; "": a trace of its own
  std::string from_version;
  std::string to_version;
  base::Json detail = base::Json::object();
};

class EventSpool {
 public:
  EventSpool(std::string folder, std::string app);
  // What can't be written goes to syslog.
  void append(const SpooledEvent& event);

 private:
  bool room();
  std::string folder_;
  std::string app_;
  std::uint64_t number_ = 0;
  std::size_t since_count_ = 0;
  bool full_ = false;
};

}  // namespace updagent::service
