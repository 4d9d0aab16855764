// The words of [rollout] and [[gate]], and what holds where nothing is said.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/release/rollout.hpp"

namespace updagent::release {

std::string_view affinity_name(Affinity affinity);
std::optional<Affinity> parse_affinity(std::string_view text);
std::string_view standby_name(Standby standby);
std::optional<Standby> parse_standby(std::string_view text);
std::string_view gate_type_name(GateType type);
std::optional<GateType> parse_gate_type(std::string_view text);
std::string_view on_no_data_name(OnNoData what);
std::optional<OnNoData> parse_on_no_data(std::string_view text);
std::string_view comparison_text(Comparison comparison);  // "<="

// Every word, for "expected one of" and "did you mean".
std::vector<std::string> affinity_names();
std::vector<std::string> standby_names();
std::vector<std::string> gate_type_names();
std::vector<std::string> on_no_data_names();

// In a row. Figures of a whole window need fewer than single answers.
int default_failures(GateType type);

}  // namespace updagent::release
