// Draws a deployment as it goes: a bar that rewrites its line on a terminal, plain lines in a pipe,
// with --json a line of JSON for each look at a rollout. Everything goes to stderr; stdout carries
// the answer.
#pragma once

#include "agent/deploy/observer.hpp"
#include "cli/session.hpp"

namespace updagent::cli {

class ProgressObserver : public deploy::Observer {
 public:
  explicit ProgressObserver(Session& session) : session_(session) {}

  void started(std::string_view trace_id, std::string_view app, std::string_view from,
               std::string_view to) override;
  void stage_started(std::string_view stage) override;
  void stage_finished(std::string_view stage, std::string_view status, std::int64_t duration_us,
                      std::string_view summary) override;
  void progress(const deploy::BytesProgress& progress) override;
  void watching(base::Milliseconds left, base::Milliseconds whole) override;
  void rollout(const deploy::RolloutProgress& progress, bool ended) override;
  void note(std::string_view line) override;
  void warning(std::string_view line) override;

 private:
  bool quiet() const { return session_.options().quiet || session_.json(); }
  void bar(std::string_view what, double share, const std::string& tail);
  void clear_line();
  void line(const std::string& text);

  Session& session_;
  std::string stage_;
  std::string waiting_for_;  // what a pipe was told
  std::uint64_t waiting_at_bytes_ = 0;
  std::int64_t drawn_us_ = 0;
  std::int64_t rate_from_us_ = 0;  // of the bytes of this stage
  std::uint64_t rate_from_bytes_ = 0;
  bool bar_shown_ = false;
  std::string told_;  // of a rollout, to a pipe
};

}  // namespace updagent::cli
