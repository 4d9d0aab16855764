#include <gtest/gtest.h>

#include "support.hpp"

// In a network namespace of its own where that may be: ports, addresses and sysctls are then nobody
// else's.
int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  updagent::listen::testing::enter_own_network();
  return RUN_ALL_TESTS();
}
