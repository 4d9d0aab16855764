// The probes of a release while it is judged: asked of both sides apart, counted for the candidate.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/health/gate_run.hpp"
#include "agent/health/gate_tally.hpp"

namespace updagent::health {

class ProbePanel {
 public:
  // Code::manifest_invalid when a gate names a probe that there is not. `on_probe` and what
  // `judging` refers to must outlive the panel.
  static base::Result<std::unique_ptr<ProbePanel>> make(const Judging& judging,
                                                        const OnResult& on_probe,
                                                        const GateJudge::OnGate& on_gate);
  // The last answers must come anew: all are asked now, but for those that are being asked.
  void begin_step();
  std::vector<std::size_t> questions() const;
  std::optional<Verdict> hear(QuestionLoop::Answer answer);
  // The gates and probes in their order.
  template <class Visit>
  void visit(Visit visit) const {
    for (const Watched& watched : watched_)
      for (const GateTally& tally : watched.tallies) visit(tally);
  }

 private:
  struct Answers {
    std::optional<std::size_t> question;
    bool healthy = false;
    int in_a_row = 0;
  };
  struct Watched {
    const release::Probe* probe = nullptr;
    std::array<Answers, kSides> sides;
    std::vector<GateTally> tallies;  // of the gates that name it, or one of its own
  };

  ProbePanel(const Judging& judging, const OnResult& on_probe)
      : loop_(judging.loop), on_probe_(on_probe) {}
  void add(const release::Probe& probe, const Judging& judging, const GateJudge::OnGate& on_gate);
  ProbeResult tell(const Watched& watched, SideIndex side, QuestionLoop::Answer answer) const;
  std::optional<Verdict> judge(Watched& watched, const ProbeResult& result,
                               std::int64_t started_us);

  QuestionLoop& loop_;
  const OnResult& on_probe_;
  std::vector<Watched> watched_;
  std::int64_t began_us_ = 0;
};

}  // namespace updagent::health
