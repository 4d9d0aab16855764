#include "agent/service/wire.hpp"

#include <gtest/gtest.h>

namespace updagent::service {
namespace {

using base::Code;
using base::Error;

TEST(Wire, An_error_is_the_same_at_the_other_end) {
  const Error sent =
      Error(Code::probe_failed, "it is not good").expected("200").got("503").hint("look");
  const Error got = error_from_json(error_to_json(sent));
  EXPECT_EQ(got.code(), sent.code());
  EXPECT_EQ(got.line(), sent.line());
  EXPECT_EQ(got.hint(), sent.hint());
}

TEST(Wire, A_code_of_a_newer_supervisor_is_internal_and_keeps_its_words) {
  const Error got = error_from_json({{"code", "of_tomorrow"}, {"message", "words"}});
  EXPECT_EQ(got.code(), Code::internal);
  EXPECT_EQ(got.message(), "words");
}

}  // namespace
}  // namespace updagent::service
