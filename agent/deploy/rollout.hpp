// The traffic's way to the candidate: the steps of a release and its watch, judged throughout, with
// what operators order meanwhile. Private to deploy/. It moves shares and says when something is
// against the release; going back is the engine's business.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/config/settings.hpp"
#include "agent/deploy/observer.hpp"
#include "agent/deploy/probe_log.hpp"
#include "agent/deploy/rollout_plan.hpp"
#include "agent/deploy/service_driver.hpp"
#include "agent/health/gates.hpp"
#include "agent/release/manifest.hpp"

namespace updagent::deploy {

// Shown and looked at about so often.
inline constexpr base::Milliseconds kLookEvery{1'000};
// Of fewer connections nobody can say whether a few addresses carry most of them.
inline constexpr std::uint64_t kEnoughToSeeClients = 100;
inline constexpr int kAll = 100;  // percent

class Rollout {
 public:
  struct Parts {
    const release::Manifest* manifest = nullptr;
    const config::AppSettings* settings = nullptr;
    ServiceDriver* service = nullptr;  // null: strategy files
    bool first = false;                // nothing of this app was current before
    Recorder* recorder = nullptr;
    Observer* observer = nullptr;
    base::Interrupt* interrupt = nullptr;  // may be null
    health::ProbeContext context;          // of probes, scrapes and commands; on_tick is made here
  };
  explicit Rollout(Parts parts);
  Rollout(const Rollout&) = delete;
  Rollout& operator=(const Rollout&) = delete;
  Rollout(Rollout&&) = delete;
  Rollout& operator=(Rollout&&) = delete;
  ~Rollout();

  // Before anything else.
  base::Status open();
  // Each step of the release, until the candidate has all new connections. Code::gate_failed,
  // probe_failed, aborted, interrupted.
  base::Status take_steps();
  // The same judgement for `span`, with what share the candidate has.
  base::Status watch(base::Milliseconds span);

  // Of the last call, for the log and for people.
  const journal::Json& detail() const { return detail_; }
  const std::string& summary() const { return summary_; }
  // Percents of the steps in which none of the new connections was the candidate's.
  const std::vector<int>& unproven_steps() const { return unproven_; }

 private:
  struct Stretch {  // of time with one share
    int percent = 100;
    base::Milliseconds span{0};
    std::int64_t min_connections = 0;
    base::Milliseconds patience{0};
    std::size_t step = 0;
    bool watching = false;
    bool begun = true;  // false: before the first share
  };
  struct Count {  // new connections since the stretch began
    std::uint64_t candidate = 0;
    std::uint64_t all = 0;
  };

  bool steered() const {
    return parts_.service != nullptr && parts_.service->mechanism() == "steered";
  }
  health::JudgeSetup judge_setup();
  base::Status take_step(std::size_t index);
  base::Status hold(const Stretch& stretch);
  base::Status hold_until_over(const Stretch& stretch);
  base::Status hold_back();
  base::Status judge_for(base::Milliseconds span);
  base::Milliseconds time_left(base::Milliseconds span) const;
  base::Error against(const health::Verdict& verdict);
  std::string what_held(base::Milliseconds span) const;
  base::Status end_stretch(const Stretch& stretch);
  bool too_few_came(const Stretch& stretch) const;
  base::Error too_few(const Stretch& stretch) const;
  bool goes_up_and_down(const Stretch& stretch, const std::string& open) const;
  base::Error undecided(const Stretch& stretch, const std::string& open) const;
  void say_nothing_came(const Stretch& stretch);
  void warn_of_few_clients(const Stretch& stretch);
  std::string still_open(const Stretch& stretch) const;
  void show(const Stretch& stretch, base::Milliseconds left, const std::string& waiting_for,
            bool ended);

  // orders.
  base::Status obey();
  void obey(const OperatorOrder& order);
  base::Status check_pause() const;
  void note_no_data(const health::Standing& standing);

  // figures
  base::Status look();
  base::Status look_anew();
  health::Figures figures() const;
  Count count() const;

  Parts parts_;
  std::vector<release::Step> steps_;
  std::vector<release::Gate> gates_;
  LookEvery look_every_;
  base::Milliseconds to_decide_{0};
  ProbeLog log_;
  std::optional<health::GateJudge> judge_;
  std::optional<base::Error> tick_error_;
  base::Json measured_;  // newest answer of the supervisor
  base::Json thorough_;  // newest one with everything
  base::Json began_;     // the answer at the begin of the stretch
  base::Json opened_;    // and at that of the rollout
  std::int64_t looked_us_ = 0;
  std::int64_t looked_thoroughly_us_ = 0;
  std::int64_t shown_us_ = 0;
  std::int64_t began_us_ = 0;  // the stretch; later by what pauses took
  std::string paused_by_;
  std::int64_t paused_us_ = 0;
  std::size_t no_data_events_ = 0;
  bool promoted_ = false;
  bool no_data_ = false;
  bool warned_of_clients_ = false;
  std::uint64_t connections_ = 0;  // of the candidate, over all steps
  std::vector<int> unproven_;      // percents of steps in which none came
  journal::Json detail_ = journal::Json::object();
  std::string summary_;
};

}  // namespace updagent::deploy
