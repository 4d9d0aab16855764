// How values look in this folder's messages and in the manifest.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace updagent::release {

// 'text' in quotes, cut after 120 bytes: a hostile string can't fill the terminal. Control bytes
// are escaped where the error is shown.
std::string in_quotes(std::string_view text);

// "0644": four octal digits (more for a value past 07777).
std::string mode_text(std::uint32_t mode);

}  // namespace updagent::release
