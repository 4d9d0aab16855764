// A judge with two sides that are told apart by the address they are asked from, and what it said.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "agent/health/gates.hpp"
#include "tests/unit/health/probe_server.hpp"

namespace updagent::health {

// A bound for what a broken judge would wait for for ever; no test measures it.
inline constexpr base::Milliseconds kPatience{60'000};
inline constexpr const char* kCandidateAddress = "127.0.0.2";
inline constexpr const char* kActiveAddress = "127.0.0.3";

// Steering of a kind: the server sees who is meant by where the question comes from.
inline Steer from(const char* address) {
  return [address](int fd, const sockaddr*) -> base::Result<std::function<void()>> {
    sockaddr_in source{};
    source.sin_family = AF_INET;
    ::inet_pton(AF_INET, address, &source.sin_addr);
    if (::bind(fd, reinterpret_cast<const sockaddr*>(&source), sizeof source) != 0)
      return base::system_error(errno, "cannot bind");
    return std::function<void()>([] {});
  };
}

class GateCase : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = std::filesystem::temp_directory_path() / "updagent-test-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override {
    judge_.reset();
    server_.reset();
    std::filesystem::remove_all(folder_);
  }

  // The pages of one side, in their order; the last one stays.
  void pages(const std::string& side, const std::vector<std::string>& pages) const {
    for (std::size_t i = 0; i < pages.size(); ++i)
      std::ofstream(folder_ / (side + "." + std::to_string(i))) << pages[i];
  }
  std::string url() {
    if (!server_) server_.emplace("metrics_server.py", std::vector<std::string>{folder_.string()});
    return server_->url("/metrics");
  }

  static release::Gate gate(release::GateType type, const std::string& condition) {
    release::Gate gate;
    gate.name = "g";
    gate.type = type;
    gate.condition = condition;
    gate.window = base::Milliseconds(100);
    gate.timeout = base::Milliseconds(20'000);
    gate.failures = 1;
    return gate;
  }
  void make() {
    JudgeSetup setup;
    setup.probes = probes_;
    setup.gates = gates_;
    setup.context = context_;
    setup.app = "demo";
    setup.candidate = {2, "2.0.0", has_active_ || steers_ ? from(kCandidateAddress) : Steer()};
    if (has_active_) setup.active = Side{1, "1.0.0", from(kActiveAddress)};
    setup.kernel = kernel_;
    auto made = GateJudge::make(
        std::move(setup), [this](const ProbeResult& result) { answers_.push_back(result); },
        [this](const GateReport& report) { reports_.push_back(report); });
    ASSERT_TRUE(made.has_value()) << made.error().line();
    judge_.emplace(std::move(*made));
    judge_->begin_step();
  }
  // Steps on until there is a verdict or `done`.
  std::optional<Verdict> run(const std::function<bool()>& done) {
    if (!judge_) make();
    const base::Deadline end = base::Deadline::in(kPatience);
    while (!done()) {
      if (end.passed()) {
        ADD_FAILURE() << "nothing came of it; it waits for " << judge_->standing().waiting_for;
        return std::nullopt;
      }
      auto step = judge_->step(base::Milliseconds(100));
      EXPECT_TRUE(step.has_value()) << step.error().line();
      if (!step) return std::nullopt;
      if (*step) return **step;
    }
    return std::nullopt;
  }
  std::optional<Verdict> run_to_reports(std::size_t count) {
    return run([this, count] { return reports_.size() >= count; });
  }
  // The first judgement, whatever it is.
  GateReport first_report() {
    static_cast<void>(run_to_reports(1));
    EXPECT_FALSE(reports_.empty());
    return reports_.empty() ? GateReport{} : reports_.front();
  }
  Verdict verdict() {
    const auto verdict = run([] { return false; });
    EXPECT_TRUE(verdict.has_value());
    return verdict.value_or(Verdict{});
  }

  std::filesystem::path folder_;
  std::optional<ServerOfTests> server_;
  std::vector<release::Probe> probes_;
  std::vector<release::Gate> gates_;
  ProbeContext context_;
  bool has_active_ = true;
  bool steers_ = false;  // the candidate alone
  std::function<base::Result<Figures>()> kernel_;
  std::vector<ProbeResult> answers_;
  std::vector<GateReport> reports_;
  std::optional<GateJudge> judge_;
};

}  // namespace updagent::health
