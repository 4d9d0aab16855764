#include <gtest/gtest.h>

#include "agent/health/default_gates.hpp"
#include "tests/unit/health/gate_case.hpp"

namespace updagent::health {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;

class KernelGate : public GateCase {
 protected:
  // Each look gets what `change` makes of the figures of the last one.
  void looks(const std::function<void(Figures&)>& change, Figures first = {}) {
    if (!first.active) first.active.emplace();
    figures_ = first;
    kernel_ = [this, change]() -> base::Result<Figures> {
      const Figures now = figures_;
      change(figures_);
      return now;
    };
  }
  void wants(const std::string& condition) {
    gates_ = {gate(release::GateType::kernel, condition)};
    gates_[0].window = base::Milliseconds(300);
  }
  void wants_default(const char* name) {
    for (const release::Gate& one : default_gates(base::Milliseconds(300)))
      if (one.name == name) gates_ = {one};
    ASSERT_EQ(gates_.size(), 1U);
    gates_[0].failures = 1;
  }
  Figures figures_;
};

TEST_F(KernelGate, A_burst_in_the_queue_is_no_failure) {
  int look = 0;
  looks([&look](Figures& now) { now.candidate.waiting = ++look % 3 == 0 ? 0 : 1000; });
  wants("queue <= 10");
  EXPECT_EQ(first_report().text, "queue 0, the active one 0, expected <= 10");
}

TEST_F(KernelGate, What_waits_at_every_look_is) {
  Figures first;
  first.candidate.waiting = 50;
  looks([](Figures& now) { now.candidate.waiting = 40; }, first);
  wants("queue <= 10");
  EXPECT_EQ(verdict().reason, "gate 'g' failed: queue 40, the active one 0, expected <= 10");
}

TEST_F(KernelGate, Accepted_is_what_was_selected_and_does_not_wait) {
  looks([](Figures& now) {
    now.candidate.selected += 1000;
    now.candidate.waiting += 500;
  });
  wants("accepted_ratio >= 0.9");
  EXPECT_EQ(verdict().reason, "gate 'g' failed: accepted_ratio 0.5, expected >= 0.9");
}

TEST_F(KernelGate, An_accepted_ratio_needs_samples) {
  int look = 0;
  looks([&look](Figures& now) { now.candidate.selected = ++look < 12 ? 99 : 400; });
  figures_.candidate.selected = 0;
  wants("accepted_ratio >= 0.9");
  EXPECT_FALSE(run_to_reports(2).has_value());
  EXPECT_EQ(reports_[0].text, "99 of 100 samples");
  EXPECT_EQ(reports_[1].text, "accepted_ratio 1, expected >= 0.9");
}

TEST_F(KernelGate, Memory_is_compared_with_the_active_ones) {
  looks([](Figures& now) {
    now.candidate.memory_bytes = 400 * kMiB;
    now.active->memory_bytes = 100 * kMiB;
  });
  wants("memory <= 2 x active");
  EXPECT_EQ(verdict().reason,
            "gate 'g' failed: memory 400 MiB, the active one 100 MiB, expected <= 2 x active");
}

TEST_F(KernelGate, Processors_are_used_over_the_window) {
  Figures first;
  first.candidate.cpu_us = 0;
  // far more than any window has
  looks([](Figures& now) { now.candidate.cpu_us = *now.candidate.cpu_us + 1'000'000'000; }, first);
  wants("cpu <= 4");
  EXPECT_TRUE(verdict().reason.starts_with("gate 'g' failed: cpu "));
}

TEST_F(KernelGate, Crashes_are_counted_in_all) {
  looks([](Figures& now) { now.candidate.crashes = 1; });
  wants("crashes <= 0");
  EXPECT_EQ(verdict().reason, "gate 'g' failed: crashes 1, the active one 0, expected <= 0");
}

TEST_F(KernelGate, A_figure_that_a_node_does_not_know_is_no_data_for_who_asked_for_it) {
  looks([](Figures&) {});
  wants("descriptors <= 1000");
  const GateReport report = first_report();
  EXPECT_EQ(report.status, GateStatus::no_data);
  EXPECT_EQ(report.text, "this node does not know descriptors");
}

TEST_F(KernelGate, Figures_that_can_not_be_had_are_no_data) {
  kernel_ = [] { return base::Error(base::Code::timed_out, "nobody answers"); };
  wants("queue <= 10");
  EXPECT_EQ(first_report().text, "nobody answers");
}

TEST_F(KernelGate, Without_the_kernel_it_is_skipped) {
  wants("queue <= 10");
  EXPECT_EQ(first_report().status, GateStatus::skipped);
}

// --- the default gates

TEST_F(KernelGate, The_default_gates_pass_where_a_node_knows_nothing) {
  gates_ = default_gates(base::Milliseconds(300));
  looks([](Figures&) {});
  EXPECT_FALSE(run([this] { return judge_ && judge_->standing().all_passed; }).has_value());
  EXPECT_FALSE(run([this] { return reports_.size() >= 5; }).has_value());
  std::size_t skipped = 0;
  for (const GateReport& report : reports_) skipped += report.status == GateStatus::skipped ? 1 : 0;
  EXPECT_EQ(skipped, 2U) << "each of memory and oom_kills says so once";
}

TEST_F(KernelGate, A_hang_is_a_queue_from_which_nothing_is_taken) {
  looks([](Figures& now) {
    now.candidate.selected += 2;
    now.candidate.waiting += 2;
  });
  figures_.candidate.waiting = 1;
  wants_default(kHangGate);
  const std::string reason = verdict().reason;
  EXPECT_TRUE(reason.ends_with("connections wait and none is accepted")) << reason;
}

TEST_F(KernelGate, One_connection_that_nobody_takes_is_a_hang_too) {
  Figures first;
  first.candidate.waiting = 1;
  looks([](Figures&) {}, first);
  wants_default(kHangGate);
  EXPECT_EQ(verdict().reason, "gate 'kernel:hang' failed: 1 connections wait and none is accepted");
}

TEST_F(KernelGate, A_queue_from_which_something_is_taken_is_none) {
  Figures first;
  first.candidate.waiting = 5;
  looks([](Figures& now) { now.candidate.selected += 100; }, first);
  wants_default(kHangGate);
  EXPECT_EQ(first_report().status, GateStatus::passed);
}

TEST_F(KernelGate, A_queue_that_is_full_all_the_time_is_a_hang_whatever_was_selected) {
  Figures first;
  first.candidate.waiting = 129;
  first.candidate.waiting_limit = 128;
  looks([](Figures& now) { now.candidate.selected += 100; }, first);
  wants_default(kHangGate);
  EXPECT_EQ(verdict().reason, "gate 'kernel:hang' failed: its queue is full: 129 connections wait");
}

TEST_F(KernelGate, Much_more_memory_than_the_active_one_is_a_leak) {
  looks([](Figures& now) {
    now.candidate.memory_bytes = 500 * kMiB;
    now.active->memory_bytes = 100 * kMiB;
  });
  wants_default(kMemoryGate);
  EXPECT_TRUE(verdict().reason.starts_with(
      "gate 'kernel:memory' failed: memory 500 MiB, the active one 100 MiB"));
}

TEST_F(KernelGate, Several_times_a_little_memory_is_none) {
  looks([](Figures& now) {
    now.candidate.memory_bytes = 100 * kMiB;
    now.active->memory_bytes = 10 * kMiB;
  });
  wants_default(kMemoryGate);
  EXPECT_FALSE(run([this] { return judge_ && judge_->standing().all_passed; }).has_value());
  EXPECT_EQ(reports_.back().status, GateStatus::passed);
}

TEST_F(KernelGate, A_kill_for_want_of_memory_is_a_failure) {
  looks([](Figures& now) { now.candidate.oom_kills = 1; });
  gates_ = default_gates(base::Milliseconds(300));
  EXPECT_EQ(verdict().reason, "gate 'kernel:oom_kills' failed: oom_kills 1, expected <= 0");
}

}  // namespace
}  // namespace updagent::health
