#pragma once

#include <cstddef>
#include <string>

namespace updagent::base {

// `count` bytes from the kernel's random source (getrandom(2)).
std::string random_bytes(std::size_t count);

}  // namespace updagent::base
