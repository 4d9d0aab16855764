#include "agent/base/digest.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>

#include "agent/base/random.hpp"
#include "agent/base/unique_fd.hpp"
#include "tests/unit/base/test_directory.hpp"

namespace updagent::base {
namespace {

// NIST, "Examples with Intermediate Values" for FIPS 180-4.
constexpr const char* kEmpty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
constexpr const char* kAbc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr const char* kTwoBlocks =
    "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1";
constexpr const char* kMillionA =
    "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

TEST(Sha256, The_published_vectors_hold) {
  EXPECT_EQ(sha256("").hex(), kEmpty);
  EXPECT_EQ(sha256("abc").hex(), kAbc);
  EXPECT_EQ(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq").hex(), kTwoBlocks);
  EXPECT_EQ(sha256(std::string(1'000'000, 'a')).hex(), kMillionA);
}

TEST(Sha256, Pieces_give_the_same_and_finish_starts_over) {
  Sha256 hash;
  for (int i = 0; i < 1000; ++i) hash.update(std::string(1000, 'a'));
  EXPECT_EQ(hash.finish().hex(), kMillionA);
  EXPECT_EQ(hash.finish().hex(), kEmpty);
  hash.update("abc");
  EXPECT_EQ(hash.finish().hex(), kAbc);
}

TEST(Sha256, Of_a_file_it_begins_at_the_current_position) {
  const test::TestDirectory directory;
  const UniqueFd file(::open(directory.write("f", "123abc").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_EQ(::lseek(file.get(), 3, SEEK_SET), 3);
  const auto digest = sha256_of_fd(file.get(), "f");
  ASSERT_TRUE(digest.has_value());
  EXPECT_EQ(digest->hex(), kAbc);
}

TEST(Sha256, A_file_that_cannot_be_read_is_named) {
  const test::TestDirectory directory;
  const UniqueFd folder(::open(directory.path().c_str(), O_RDONLY | O_CLOEXEC));
  const auto digest = sha256_of_fd(folder.get(), "the folder");
  ASSERT_FALSE(digest.has_value());
  EXPECT_EQ(digest.error().line(), "cannot read 'the folder': Is a directory");
}

TEST(Digest, It_has_one_spelling) {
  const auto digest = Digest::from_hex(kAbc);
  ASSERT_TRUE(digest.has_value());
  EXPECT_EQ(*digest, sha256("abc"));
  EXPECT_EQ(digest->hex(), kAbc);
  std::string upper = kAbc;
  upper[0] = 'B';
  EXPECT_FALSE(Digest::from_hex(upper));
  EXPECT_FALSE(Digest::from_hex(std::string(kAbc).substr(1)));
  EXPECT_FALSE(Digest::from_hex(std::string(kAbc) + "0"));
  EXPECT_FALSE(Digest::from_hex(""));
}

TEST(RandomBytes, They_have_the_asked_length_and_differ) {
  EXPECT_EQ(random_bytes(0), "");
  EXPECT_EQ(random_bytes(16).size(), 16U);
  EXPECT_NE(random_bytes(16), random_bytes(16));
}

}  // namespace
}  // namespace updagent::base
