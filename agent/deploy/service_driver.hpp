// A deployment's hold on the supervisor: one connection, one epoch. While it lives and renews the
// lease the candidate keeps its weight; when it dies the supervisor takes the weight away.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "agent/deploy/production.hpp"
#include "agent/health/probes.hpp"
#include "agent/listen/steering.hpp"
#include "agent/release/resolved_service.hpp"
#include "agent/service/client.hpp"

namespace updagent::deploy {

inline constexpr std::uint16_t kFullWeight = 10'000;
inline constexpr base::Milliseconds kRenewEvery{2'000};

struct ServiceStatus {
  std::uint64_t number = 0;  // 0: there is none
  std::string version;
  std::string life;
};

// What to do while old generations drain and no other may be started.
struct RoomWish {
  bool end_oldest = false;  // it gets its stop signal although it is not idle yet
  base::Interrupt* interrupt = nullptr;
  std::function<void(const std::string& why)> waiting;  // once, before the wait
};

// What an operator wants of the deployment; `id` is the supervisor's, and rises.
struct OperatorOrder {
  std::uint64_t id = 0;
  std::string word;  // pause, resume, promote (abort ends whatever is under way as Code::aborted)
  std::string actor;
};

class ServiceDriver {
 public:
  // Finds the supervisor again when it died, or starts its successor.
  using Reconnect = std::function<base::Result<service::Client>()>;

  static base::Result<ServiceDriver> begin(service::Client client, const std::string& trace_id,
                                           Reconnect reconnect);

  const std::string& mechanism() const { return mechanism_; }  // steered, shared
  const std::string& why_shared() const { return reason_; }
  const ServiceStatus& active() const { return active_; }
  const ServiceStatus& candidate() const { return candidate_; }

  // Starts the candidate; it may take its ready_timeout until wait_ready() says how that went.
  // While as many generations live as may, it waits until one of them is gone: `room` says how.
  base::Status start(const release::ResolvedService& run, const RoomWish& room);
  // Code::probe_failed with the supervisor's words when it did not come up.
  base::Status wait_ready(base::Milliseconds patience, base::Interrupt* interrupt);
  base::Status mark_ready();
  base::Status set_weight(std::uint16_t weight);
  // Its users go to the release before at once, whatever else the way back takes: where connections
  // are steered from the next one on, in the kernel, before the supervisor has been told (it may
  // wait for a processor, or be stopped). Errors are for roll_back() to find.
  void withdraw();
  // Hears the supervisor for `span`, or until an interrupt: for whoever has nothing else to do.
  base::Status listen(base::Milliseconds span, base::Interrupt* interrupt);
  // The last question before the release is committed: is the candidate still there, and is the
  // deployment still ours?
  base::Status confirm();
  base::Status commit();
  // `again`: what serves afterwards where the old one does not run any more (strategy restart).
  base::Status roll_back(const std::string& reason,
                         const std::optional<release::ResolvedService>& again = std::nullopt);
  base::Status end();

  // Brings each connection of a probe to this generation, through the production address.
  health::Steer steer(std::uint64_t generation);
  health::Steer steer() { return steer(candidate_.number); }
  // What kernel and steering know of all generations (service/measure.cpp).
  base::Result<base::Json> measure(bool thorough);
  // The last lines that the candidate wrote; empty where they are not to be had.
  std::string output_of_candidate();
  // Orders that came since the last call, in their order. The supervisor knows that they are taken.
  std::vector<OperatorOrder> take_orders();
  // For `status`. Nobody waits for it.
  void tell_progress(base::Json progress);
  // After a way back: until the generation that users are with serves, which the supervisor may
  // have to start again. Code::timed_out, or its words when it does not come up.
  base::Status wait_active(base::Milliseconds patience);
  // Where that generation can be asked: its listeners' production addresses, and its own unix
  // paths.
  base::Result<std::vector<ListensAt>> listens_at(std::uint64_t generation);
  // For everything that takes long: renews the lease when it is time, and says what the supervisor
  // has said: Code::probe_failed when the candidate failed, or the lease was lost.
  base::Status tick();
  // Of the candidate's traffic, for when the supervisor can't be asked to end it: after that the
  // kernel has.
  base::Milliseconds lease_left() const;

 private:
  ServiceDriver(service::Client client, Reconnect reconnect)
      : client_(std::move(client)), reconnect_(std::move(reconnect)) {}
  void take(const base::Json& answer);
  void open_policy(const base::Json& ids);
  // With the successor of a supervisor that died: the same deployment, the same candidate.
  base::Result<base::Json> begin_again();
  base::Status resume();
  base::Result<std::optional<base::Json>> next_news(base::Milliseconds span,
                                                    base::Interrupt* interrupt);
  base::Result<base::Json> ask(const std::string& op, base::Json fields = base::Json::object(),
                               int descriptor = -1);
  base::Status hear(const base::Json& news);
  base::Status hear_order(const base::Json& news);
  base::Status wait_for_room(const base::Deadline& end, const std::string& why,
                             base::Interrupt* interrupt);

  service::Client client_;
  Reconnect reconnect_;
  std::string trace_id_;
  std::uint64_t epoch_ = 0;
  std::string mechanism_;
  std::string reason_;
  ServiceStatus active_;
  ServiceStatus candidate_;
  // The steering as the supervisor has it; nothing where it is shared, or may not be opened by us.
  std::optional<listen::Policy> policy_;
  std::uint64_t salt_ = 0;  // of our candidate
  std::deque<OperatorOrder> orders_;
  std::uint64_t last_order_ = 0;
  bool ready_ = false;
  bool resumed_ = false;  // by the last next_news()
  bool weighted_ = false;
  bool renews_ = false;
  bool going_back_ = false;  // what was ordered or lost before decides nothing any more
  std::int64_t renewed_us_ = 0;
};

// Whether the server's side of a tcp connection of ours was accepted by a process.
bool was_accepted(int fd);

}  // namespace updagent::deploy
