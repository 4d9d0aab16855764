#include "agent/base/child_process.hpp"
#include "agent/base/text.hpp"
#include "agent/health/probe_run.hpp"

namespace updagent::health {
namespace {

constexpr std::size_t kLastLineBytes = 200;  // the reason is one line in a terminal and in the log

// Commands say what is wrong in their last words.
std::string last_line(std::string_view output) {
  const std::size_t end = output.find_last_not_of(" \t\r\n");
  if (end == std::string_view::npos) return "";
  output = output.substr(0, end + 1);
  const std::size_t newline = output.find_last_of('\n');
  if (newline != std::string_view::npos) output.remove_prefix(newline + 1);
  return base::printable(base::to_valid_utf8(output.substr(0, kLastLineBytes)));
}

Finding judge(base::ChildResult result, base::Milliseconds limit) {
  if (result.success()) return {true, "", std::move(result.output)};
  std::string problem = result.describe(limit);
  if (const std::string words = last_line(result.output); !words.empty()) problem += ": " + words;
  return {false, std::move(problem), std::move(result.output)};
}

class ExecRun : public ProbeRun {
 public:
  ExecRun(base::Result<base::ChildProcess> child, base::Milliseconds limit)
      : child_(std::move(child)), limit_(limit) {}

  int event_fd() const override { return child_ ? child_->event_fd() : -1; }

  std::optional<Finding> look() override {
    if (!child_) return Finding{false, child_.error().line(), ""};
    const base::Result<bool> ended = child_->on_event();
    if (!ended) return Finding{false, ended.error().line(), ""};
    if (!*ended) return std::nullopt;
    return judge(child_->take_result(), limit_);
  }

 private:
  base::Result<base::ChildProcess> child_;
  base::Milliseconds limit_;
};

}  // namespace

std::unique_ptr<ProbeRun> start_exec(const release::Probe& probe, const ProbeContext& context) {
  base::ChildSpec spec;
  spec.argv = probe.command.argv;
  spec.environment = context.environment;
  spec.working_directory = context.working_directory;
  spec.identity = context.identity;
  spec.time_limit = probe.timeout;
  return std::make_unique<ExecRun>(base::ChildProcess::start(spec), probe.timeout);
}

}  // namespace updagent::health
