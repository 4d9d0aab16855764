#include "agent/release/rollout_words.hpp"

#include <array>

#include "agent/release/word_list.hpp"

namespace updagent::release {
namespace {

constexpr std::array<Word<Affinity>, 2> kAffinities = {
    {{"client", Affinity::client}, {"connection", Affinity::connection}}};
constexpr std::array<Word<Standby>, 2> kStandbys = {
    {{"cold", Standby::cold}, {"warm", Standby::warm}}};
constexpr std::array<Word<GateType>, 5> kGateTypes = {{{"exec", GateType::exec},
                                                       {"kernel", GateType::kernel},
                                                       {"probe", GateType::probe},
                                                       {"prometheus", GateType::prometheus},
                                                       {"scrape", GateType::scrape}}};
constexpr std::array<Word<OnNoData>, 2> kOnNoData = {
    {{"fail", OnNoData::fail}, {"pause", OnNoData::pause}}};
constexpr std::array<Word<Comparison>, 4> kComparisons = {{{"<=", Comparison::less_or_equal},
                                                           {"<", Comparison::less},
                                                           {">=", Comparison::greater_or_equal},
                                                           {">", Comparison::greater}}};

constexpr int kFailuresOfAnswers = 3;  // as a [[probe]]
constexpr int kFailuresOfWindows = 2;

}  // namespace

std::string_view affinity_name(Affinity affinity) {
  return name_of(kAffinities, affinity);
}
std::optional<Affinity> parse_affinity(std::string_view text) {
  return value_of(kAffinities, text);
}
std::string_view standby_name(Standby standby) {
  return name_of(kStandbys, standby);
}
std::optional<Standby> parse_standby(std::string_view text) {
  return value_of(kStandbys, text);
}
std::string_view gate_type_name(GateType type) {
  return name_of(kGateTypes, type);
}
std::optional<GateType> parse_gate_type(std::string_view text) {
  return value_of(kGateTypes, text);
}
std::string_view on_no_data_name(OnNoData what) {
  return name_of(kOnNoData, what);
}
std::optional<OnNoData> parse_on_no_data(std::string_view text) {
  return value_of(kOnNoData, text);
}
std::string_view comparison_text(Comparison comparison) {
  return name_of(kComparisons, comparison);
}

std::vector<std::string> affinity_names() {
  return names_of(kAffinities);
}
std::vector<std::string> standby_names() {
  return names_of(kStandbys);
}
std::vector<std::string> gate_type_names() {
  return names_of(kGateTypes);
}
std::vector<std::string> on_no_data_names() {
  return names_of(kOnNoData);
}

int default_failures(GateType type) {
  const bool asks_once = type == GateType::probe || type == GateType::exec;
  return asks_once ? kFailuresOfAnswers : kFailuresOfWindows;
}

}  // namespace updagent::release
