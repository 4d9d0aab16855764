#include "agent/release/describe.hpp"

#include <array>
#include <cstdio>

namespace updagent::release {
namespace {

constexpr std::size_t kShown = 120;  // a line of a terminal

}  // namespace

std::string in_quotes(std::string_view text) {
  std::string out = "'";
  out += text.substr(0, kShown);
  if (text.size() > kShown) out += "...";
  out += '\'';
  return out;
}

std::string mode_text(std::uint32_t mode) {
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "%04o", mode);
  return text.data();
}

}  // namespace updagent::release
