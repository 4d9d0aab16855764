#include "agent/trust/base64.hpp"

#include <gtest/gtest.h>

namespace updagent::trust {
namespace {

TEST(Base64, Encodes_the_vectors_of_RFC_4648) {
  EXPECT_EQ(base64_encode(""), "");
  EXPECT_EQ(base64_encode("f"), "Zg==");
  EXPECT_EQ(base64_encode("fo"), "Zm8=");
  EXPECT_EQ(base64_encode("foo"), "Zm9v");
  EXPECT_EQ(base64_encode("foob"), "Zm9vYg==");
  EXPECT_EQ(base64_encode("fooba"), "Zm9vYmE=");
  EXPECT_EQ(base64_encode("foobar"), "Zm9vYmFy");
}

TEST(Base64, Decodes_what_it_encodes_for_every_byte) {
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  for (std::size_t length = 0; length <= all.size(); ++length)
    EXPECT_EQ(base64_decode(base64_encode(all.substr(0, length))), all.substr(0, length));
}

TEST(Base64, Reads_the_url_safe_alphabet_too) {
  EXPECT_EQ(base64_decode("+/+/"), "\xfb\xff\xbf");
  EXPECT_EQ(base64_decode("-_-_"), "\xfb\xff\xbf");
}

TEST(Base64, Refuses_a_mix_of_both_alphabets) {
  EXPECT_EQ(base64_decode("+_+_"), std::nullopt);
}

TEST(Base64, Refuses_missing_or_misplaced_padding) {
  for (const char* text : {"Zg", "Zg=", "Zg===", "=", "====", "Z===", "Zg==Zg==", "=Zg="})
    EXPECT_EQ(base64_decode(text), std::nullopt) << text;
}

TEST(Base64, Refuses_spaces_line_ends_and_other_bytes) {
  for (const char* text : {"Zm9v\n", "Zm 9v===", "Zm9*", "Zm9\x80"})
    EXPECT_EQ(base64_decode(text), std::nullopt) << text;
}

TEST(Base64, Refuses_a_second_spelling_of_the_same_bytes) {
  EXPECT_EQ(base64_decode("Zh=="), std::nullopt);
  EXPECT_EQ(base64_decode("Zm9="), std::nullopt);
}

}  // namespace
}  // namespace updagent::trust
