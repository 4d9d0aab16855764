#include <gtest/gtest.h>

#include "tests/unit/release_reader/sample.hpp"

namespace updagent::testing {
namespace {

using base::Code;
using release::envelope_from_head;

base::Status status_of(std::string_view head) {
  UPD_TRY(envelope_from_head(head));
  return base::ok();
}

TEST(Envelope_from_head, comes_from_the_first_bytes_alone) {
  const Sample good = sample();
  for (const Packing packing : {Packing::gzip, Packing::zstd}) {
    const std::string bytes = good.pieces().build(packing);
    const std::size_t first = compressed_part(good.pieces().envelope, packing).size();
    for (const std::size_t size : {first + 512, release::kHeadBytes, bytes.size()}) {
      const auto envelope = envelope_from_head(std::string_view(bytes).substr(0, size));
      ASSERT_TRUE(envelope) << envelope.error().line();
      EXPECT_EQ(*envelope, good.envelope);
    }
  }
}

TEST(Envelope_from_head, is_nothing_while_bytes_are_missing) {
  Sample good;
  good.envelope = noise(60'000);
  const std::string bytes = good.pieces().build(Packing::gzip);
  const std::size_t first = gzip_member(good.pieces().envelope).size();
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{3}, std::size_t{511}, std::size_t{2000}, first - 1}) {
    const auto envelope = envelope_from_head(std::string_view(bytes).substr(0, size));
    ASSERT_TRUE(envelope) << envelope.error().line();
    EXPECT_FALSE(*envelope) << size;
  }
}

TEST(Envelope_from_head, is_the_largest_that_is_allowed) {
  Sample large;
  large.envelope = noise(release::kMaxEnvelopeBytes);
  const std::string bytes = large.pieces().build(Packing::gzip);
  ASSERT_GT(release::kHeadBytes, gzip_member(large.pieces().envelope).size());
  const auto envelope = envelope_from_head(std::string_view(bytes).substr(0, release::kHeadBytes));
  ASSERT_TRUE(envelope) << envelope.error().line();
  EXPECT_EQ(*envelope, large.envelope);

  large.envelope += 'x';
  expect_refused(status_of(large.pieces().build(Packing::gzip)), Code::envelope_invalid, "65536",
                 "65537");
}

TEST(Envelope_from_head, refuses_a_file_that_can_not_be_an_artifact) {
  const std::string page = "<!DOCTYPE html>" + std::string(1000, ' ');
  expect_refused(status_of(page), Code::not_an_artifact, "updagent pack", "an HTML page");
  const std::string tarball =
      gzip_member(tar_entry(file_fields("package/index.js", 2000), noise(2000)) + end_of_archive());
  expect_refused(status_of(tarball), Code::not_an_artifact, release::kEnvelopePath,
                 "package/index.js");
  EXPECT_NE(status_of(tarball).error().hint().find("updagent pack"), std::string::npos);
}

TEST(Envelope_from_head, gives_up_when_the_head_holds_no_whole_envelope) {
  // deflate blocks that hold nothing, without end
  std::string endless("\x1F\x8B\x08\0\0\0\0\0\0\xFF", 10);
  while (endless.size() < release::kHeadBytes) endless += std::string("\0\0\0\xFF\xFF", 5);
  expect_refused(status_of(std::string_view(endless).substr(0, release::kHeadBytes)),
                 Code::not_an_artifact, "128 KiB", "none");
}

TEST(Envelope_from_head, is_never_another_one_after_a_bit_was_flipped) {
  const Sample good = small_sample();
  const std::string bytes = good.pieces().build(Packing::gzip) + std::string(512, 'x');
  const std::size_t first = gzip_member(good.pieces().envelope).size();
  constexpr std::size_t kGzipHeader = 10;  // its time, level and system are free
  for (std::size_t at = kGzipHeader; at < first; ++at) {
    std::string bad = bytes;
    bad[at] = static_cast<char>(bad[at] ^ 0x10);
    const auto envelope = envelope_from_head(bad);
    // deflate can say the same in two ways, so a flipped bit may leave every byte as it was
    EXPECT_TRUE(!envelope || !*envelope || **envelope == good.envelope) << at;
  }
}

}  // namespace
}  // namespace updagent::testing
