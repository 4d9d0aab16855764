#include <gtest/gtest.h>

#include "tests/unit/health/gate_case.hpp"

namespace updagent::health {
namespace {

class ExecGate : public GateCase {
 protected:
  void wants(const std::string& script) {
    has_active_ = false;
    release::Gate one = gate(release::GateType::exec, "");
    one.command.argv = {"/bin/sh", "-c", script};
    gates_ = {one};
  }
};

TEST_F(ExecGate, Exit_status_0_passes_once_it_is_so_after_a_whole_window) {
  wants("exit 0");
  gates_[0].window = base::Milliseconds(300);
  EXPECT_FALSE(run_to_reports(1).has_value());
  EXPECT_FALSE(judge_->standing().all_passed);
  EXPECT_FALSE(run([this] { return judge_->standing().all_passed; }).has_value());
  EXPECT_GE(reports_.size(), 2U);
}

TEST_F(ExecGate, Another_status_is_a_failure_with_its_output) {
  wants("echo no; exit 3");
  const Verdict against = verdict();
  EXPECT_EQ(against.reason, "gate 'g' failed: exit status 3: no");
  EXPECT_EQ(against.output, "no\n");
}

TEST_F(ExecGate, Three_in_a_row_are_needed_where_nothing_is_said) {
  wants("exit 1");
  gates_[0].failures = 0;
  EXPECT_EQ(verdict().reason, "gate 'g' failed 3 times in a row: exit status 1");
  EXPECT_EQ(reports_.size(), 3U);
}

TEST_F(ExecGate, One_that_hangs_has_failed) {
  wants("exec sleep 1000");
  gates_[0].timeout = base::Milliseconds(300);
  EXPECT_EQ(verdict().reason,
            "gate 'g' failed: still running after 300ms: killed with its children");
}

}  // namespace
}  // namespace updagent::health
