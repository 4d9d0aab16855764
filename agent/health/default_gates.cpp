#include "agent/health/default_gates.hpp"

namespace updagent::health {
namespace {

// Long enough that a pause of a garbage collector is none of it, short beside any step.
constexpr base::Milliseconds kDefaultWindow{5'000};

release::Gate kernel_gate(const char* name, const char* condition) {
  release::Gate gate;
  gate.name = name;
  gate.type = release::GateType::kernel;
  gate.condition = condition;
  gate.window = kDefaultWindow;
  return gate;
}

}  // namespace

std::vector<release::Gate> default_gates() {
  std::vector<release::Gate> gates = {kernel_gate(kHangGate, kHangCondition),
                                      kernel_gate(kMemoryGate, kMemoryCondition),
                                      kernel_gate(kOomGate, "oom_kills <= 0")};
  gates.back().failures = 1;  // a kill is no chance event
  return gates;
}

bool is_default(const release::Gate& gate) {
  return gate.name.find(':') != std::string::npos;
}

}  // namespace updagent::health
