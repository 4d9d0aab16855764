// A whole file of the source tree, for tests that compare documents with the code.
#pragma once

#include <fstream>
#include <iterator>
#include <string>

namespace updagent::deploy::testing {

// "" when it can't be read: what is looked for is then not found, and the test fails.
inline std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace updagent::deploy::testing
