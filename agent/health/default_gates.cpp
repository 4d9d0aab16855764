#include "agent/health/default_gates.hpp"

#include <algorithm>

namespace updagent::health {
namespace {

constexpr int kLeastHangs = 2;  // a window that ends just before an accept is no hang

release::Gate kernel_gate(const char* name, const char* condition, base::Milliseconds window) {
  release::Gate gate;
  gate.name = name;
  gate.type = release::GateType::kernel;
  gate.condition = condition;
  gate.window = window;
  return gate;
}

// In a row, until together they are kShortestHang.
int windows_of_a_hang(base::Milliseconds window) {
  const auto one = std::max<std::int64_t>(window.count(), 1);
  return std::max(kLeastHangs, static_cast<int>((kShortestHang.count() + one - 1) / one));
}

}  // namespace

std::vector<release::Gate> default_gates(base::Milliseconds window) {
  std::vector<release::Gate> gates = {kernel_gate(kHangGate, kHangCondition, window),
                                      kernel_gate(kMemoryGate, kMemoryCondition, window),
                                      kernel_gate(kOomGate, "oom_kills <= 0", window)};
  gates.front().failures = windows_of_a_hang(window);
  gates.back().failures = 1;  // a kill is no chance event
  return gates;
}

bool is_default(const release::Gate& gate) {
  return gate.name.find(':') != std::string::npos;
}

}  // namespace updagent::health
