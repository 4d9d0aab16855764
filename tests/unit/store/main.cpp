#include <gtest/gtest.h>

#include <string>

#include "support.hpp"

int main(int argc, char** argv) {
  if (argc == 4 && std::string(argv[1]) == "--child")
    return updagent::store::testing::child_main(argv[2], argv[3]);
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
