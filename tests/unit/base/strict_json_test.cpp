#include "agent/base/strict_json.hpp"

#include <gtest/gtest.h>

namespace updagent::base {
namespace {

Result<Json> parse(std::string_view text) {
  return parse_strict_json(text, Code::envelope_invalid, "the envelope");
}

std::string nested(int depth) {
  return std::string(static_cast<std::size_t>(depth), '[') + "1" +
         std::string(static_cast<std::size_t>(depth), ']');
}

TEST(StrictJson, A_plain_document_is_read) {
  const auto json = parse(R"( {"a": [1, -2, true, null, "\u00e4"], "b": {}} )");
  ASSERT_TRUE(json.has_value()) << json.error().line();
  EXPECT_EQ((*json)["a"][1], -2);
  EXPECT_EQ((*json)["a"][4], "\xC3\xA4");
  EXPECT_TRUE((*json)["b"].is_object());
}

TEST(StrictJson, Integers_up_to_2_to_the_53_are_exact) {
  const auto json = parse("[9007199254740992, -9007199254740992]");
  ASSERT_TRUE(json.has_value());
  EXPECT_EQ((*json)[0], std::int64_t{1} << 53);
  EXPECT_EQ((*json)[1], -(std::int64_t{1} << 53));
}

TEST(StrictJson, Keys_may_repeat_only_in_different_objects) {
  EXPECT_TRUE(parse(R"([{"a":1},{"a":2},{"b":{"a":3},"a":4}])").has_value());
}

struct Refusal {
  const char* what;
  std::string text;
  const char* got;  // a part of it
};

class StrictJsonRefusal : public ::testing::TestWithParam<Refusal> {};

TEST_P(StrictJsonRefusal, It_is_refused_with_its_own_reason) {
  const auto json = parse(GetParam().text);
  ASSERT_FALSE(json.has_value()) << json->dump();
  EXPECT_EQ(json.error().code(), Code::envelope_invalid);
  EXPECT_TRUE(json.error().message().starts_with("the envelope is not ")) << json.error().line();
  EXPECT_NE(json.error().got().find(GetParam().got), std::string::npos) << json.error().got();
  EXPECT_FALSE(json.error().expected().empty());
}

INSTANTIATE_TEST_SUITE_P(
    All, StrictJsonRefusal,
    ::testing::Values(
        Refusal{"duplicate_key", R"({"a":1,"b":2,"a":3})", "the key 'a' stands twice"},
        Refusal{"duplicate_key_escaped", R"({"a":1,"\u0061":3})", "the key 'a' stands twice"},
        Refusal{"float", "[1.5]", "1.5 is not an integer"},
        Refusal{"exponent", "[1e3]", "1e3 is not an integer"},
        Refusal{"past_2_53", "[9007199254740993]", "past 2^53"},
        Refusal{"below_2_53", "[-9007199254740993]", "below -2^53"},
        Refusal{"past_64_bits", "[99999999999999999999]", "is not an integer"},
        Refusal{"byte_order_mark", "\xEF\xBB\xBF{}", "byte order mark"},
        Refusal{"bytes_after", "{} {}", "syntax error"},
        Refusal{"nul_after", std::string("{}\0{}", 5), ""},
        Refusal{"nul_at_end", std::string("{}\0", 3), ""}, Refusal{"empty", "", "syntax error"},
        Refusal{"cut", R"({"a":)", "syntax error"}, Refusal{"comment", "{} // c", "syntax error"},
        Refusal{"comma", "[1,]", "syntax error"}, Refusal{"not_utf8", "[\"\xFF\"]", "syntax error"},
        Refusal{"surrogate", R"(["\ud800"])", "syntax error"},
        Refusal{"control", "[\"\n\"]", "syntax error"},
        Refusal{"deep", nested(kMaxJsonDepth + 1), "nested too deep"},
        Refusal{"very_deep", nested(100'000), "nested too deep"}),
    [](const auto& refusal) { return refusal.param.what; });

TEST(StrictJson, The_bound_of_the_depth_itself_is_allowed) {
  EXPECT_TRUE(parse(nested(kMaxJsonDepth)).has_value());
}

}  // namespace
}  // namespace updagent::base
