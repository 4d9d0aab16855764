#include <gtest/gtest.h>

#include <string_view>

#include "tests/unit/journal/support.hpp"

int main(int argc, char** argv) {
  if (argc > 2 && std::string_view(argv[1]) == "--child")
    return updagent::journal::testing::child_main({argv + 2, argv + argc});
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
