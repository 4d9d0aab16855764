#include "agent/deploy/rollout_figures.hpp"

#include <algorithm>

namespace updagent::deploy {
namespace {

using base::Json;

const Json* row_of(const Json& answer, std::uint64_t generation) {
  const auto list = answer.find("generations");
  if (list == answer.end() || !list->is_array()) return nullptr;
  for (const Json& one : *list)
    if (one.value("number", std::uint64_t{0}) == generation) return &one;
  return nullptr;
}

// What was read strictly is signed: base/strict_json.hpp has one kind of integers.
std::optional<std::uint64_t> figure(const Json* row, const char* key) {
  if (row == nullptr) return std::nullopt;
  const auto found = row->find(key);
  if (found == row->end() || !found->is_number_integer()) return std::nullopt;
  const auto value = found->get<std::int64_t>();
  return value < 0 ? std::nullopt : std::optional(static_cast<std::uint64_t>(value));
}

std::uint64_t number(const Json* row, const char* key) {
  return figure(row, key).value_or(0);
}

std::uint64_t grown(const Json* now, const Json* before, const char* key) {
  const std::uint64_t is = number(now, key);
  const std::uint64_t was = number(before, key);
  return is >= was ? is - was : is;
}

std::uint64_t connections(const Json* now, const Json* before) {
  return grown(now, before, "selected") + grown(now, before, "fallback");
}

}  // namespace

std::uint64_t connections_since(const Json& now, const Json& before, std::uint64_t generation) {
  return connections(row_of(now, generation), row_of(before, generation));
}

std::uint64_t all_connections_since(const Json& now, const Json& before) {
  std::uint64_t sum = 0;
  const auto list = now.find("generations");
  if (list == now.end() || !list->is_array()) return 0;
  for (const Json& one : *list)
    sum += connections_since(now, before, one.value("number", std::uint64_t{0}));
  return sum;
}

std::optional<health::KernelFigures> kernel_figures(const Json& now, const Json& thorough,
                                                    const Json& before, std::uint64_t generation) {
  const Json* row = row_of(now, generation);
  if (row == nullptr) return std::nullopt;
  const Json* slow = row_of(thorough, generation);
  health::KernelFigures figures;
  figures.selected = connections(row, row_of(before, generation));
  figures.waiting = number(row, "waiting");
  figures.waiting_limit = number(row, "waiting_limit");
  figures.crashes = number(row, "crashes");
  figures.memory_bytes = figure(slow, "memory_bytes");
  figures.descriptors = figure(slow, "descriptors");
  figures.cpu_us = figure(row, "cpu_us");
  figures.oom_kills = figure(row, "oom_kills");
  return figures;
}

}  // namespace updagent::deploy
