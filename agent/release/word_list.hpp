// Words and the values that they stand for, in both directions.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace updagent::release {

template <class Value>
struct Word {
  std::string_view name;
  Value value;
};

// "" for a value that has no word.
template <class Value, std::size_t N>
std::string_view name_of(const std::array<Word<Value>, N>& words, Value value) {
  for (const auto& word : words)
    if (word.value == value) return word.name;
  return "";
}

template <class Value, std::size_t N>
std::optional<Value> value_of(const std::array<Word<Value>, N>& words, std::string_view name) {
  for (const auto& word : words)
    if (word.name == name) return word.value;
  return std::nullopt;
}

template <class Value, std::size_t N>
std::vector<std::string> names_of(const std::array<Word<Value>, N>& words) {
  std::vector<std::string> names;
  names.reserve(words.size());
  for (const auto& word : words) names.emplace_back(word.name);
  return names;
}

}  // namespace updagent::release
