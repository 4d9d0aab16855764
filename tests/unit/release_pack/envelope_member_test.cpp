#include "agent/release/envelope_member.hpp"

#include <gtest/gtest.h>

#include <string>

#include "agent/release/artifact_reader.hpp"
#include "agent/release/tar_header.hpp"
#include "tests/support/tar_builder.hpp"
#include "tests/unit/release_pack/support.hpp"

namespace updagent::release::test {
namespace {

using testing::file_fields;
using testing::gzip_member;
using testing::tar_entry;
using testing::zstd_frame;

std::string envelope_entry(const std::string& content) {
  return tar_entry(file_fields(kEnvelopePath, content.size(), 0644, 1718730000), content);
}

// The first gzip member alone, by zlib; `length` is what it takes in the file.
std::string inflated_first_member(const std::string& file, std::size_t& length) {
  z_stream stream{};
  EXPECT_EQ(inflateInit2(&stream, 31), Z_OK);
  std::string out(1 << 20, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(file.data()));
  stream.avail_in = static_cast<uInt>(file.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(inflate(&stream, Z_NO_FLUSH), Z_STREAM_END);
  length = stream.total_in;
  out.resize(stream.total_out);
  inflateEnd(&stream);
  return out;
}

class EnvelopeMemberTest : public PackTest {};

TEST_F(EnvelopeMemberTest, The_first_gzip_member_holds_entry_1_alone) {
  make_tree();
  const auto wanted = request(scratch_.path("tree"), scratch_.path("out.tar.gz"));
  packed(wanted);
  std::size_t length = 0;
  const std::string file = scratch_.read("out.tar.gz");
  const std::string member = inflated_first_member(file, length);
  EXPECT_EQ(
      member,
      tar_entry(file_fields(kEnvelopePath, std::string(kEnvelope).size(), 0644, kThen), kEnvelope));
  const std::string rest = inflated_first_member(file.substr(length), length);
  EXPECT_EQ(rest.substr(0, std::string(kManifestPath).size()), kManifestPath);
}

TEST_F(EnvelopeMemberTest, The_first_zstd_frame_holds_entry_1_alone) {
  make_tree();
  packed(request(scratch_.path("tree"), scratch_.path("out.tar.zst")));
  const std::string file = scratch_.read("out.tar.zst");
  const std::size_t length = ZSTD_findFrameCompressedSize(file.data(), file.size());
  ASSERT_EQ(ZSTD_isError(length), 0U);
  std::string member(1 << 16, '\0');
  const std::size_t size = ZSTD_decompress(member.data(), member.size(), file.data(), length);
  ASSERT_EQ(ZSTD_isError(size), 0U);
  member.resize(size);
  EXPECT_EQ(member, envelope_entry(kEnvelope));
}

TEST_F(EnvelopeMemberTest, Another_envelope_leaves_every_later_byte_alone) {
  make_tree();
  for (const std::string name : {"out.tar.gz", "out.tar.zst"}) {
    const PackResult result = packed(request(scratch_.path("tree"), scratch_.path(name)));
    const std::string before = scratch_.read(name);
    const std::string longer =
        R"({"payload":"e30=","signatures":[)" + std::string(3000, ' ') + "]}";
    const auto replaced =
        replace_envelope(scratch_.path(name), longer, scratch_.path("new-" + name));
    ASSERT_TRUE(replaced) << replaced.error().line();
    const std::string after = scratch_.read("new-" + name);
    const auto was = find_envelope_member(before);
    const auto is = find_envelope_member(after);
    ASSERT_TRUE(was && is);
    EXPECT_EQ(is->created, kThen);
    EXPECT_EQ(before.substr(was->length), after.substr(is->length));
    EXPECT_NE(before, after);
    EXPECT_EQ(scratch_.read(name), before) << "the input stays as it was";
    const ReadBack back = read_back(scratch_.path("new-" + name), result.manifest_digest);
    EXPECT_EQ(back.envelope, longer);
    EXPECT_EQ(back.contents.at("bin.txt"), "sorts between bin and bin/shop\n");
  }
}

TEST_F(EnvelopeMemberTest, The_same_envelope_gives_the_same_file_also_in_place) {
  make_tree();
  for (const std::string name : {"out.tar.gz", "out.tar.zst"}) {
    packed(request(scratch_.path("tree"), scratch_.path(name)));
    const std::string before = scratch_.read(name);
    ASSERT_TRUE(replace_envelope(scratch_.path(name), kEnvelope, scratch_.path(name)));
    EXPECT_EQ(scratch_.read(name), before);
  }
}

TEST_F(EnvelopeMemberTest, An_envelope_that_no_reader_takes_is_not_written) {
  make_tree();
  packed(request(scratch_.path("tree"), scratch_.path("out.tar.gz")));
  for (const std::string& envelope : {std::string(), std::string(kMaxEnvelopeBytes + 1, 'x')}) {
    const auto replaced =
        replace_envelope(scratch_.path("out.tar.gz"), envelope, scratch_.path("new.tar.gz"));
    ASSERT_FALSE(replaced);
    EXPECT_EQ(replaced.error().code(), base::Code::envelope_invalid);
    EXPECT_EQ(replaced.error().expected(), "1 to 65536 bytes");
  }
  EXPECT_EQ(scratch_.names().size(), 2U) << "no output and no temporary file";
  ASSERT_TRUE(replace_envelope(scratch_.path("out.tar.gz"), std::string(kMaxEnvelopeBytes, 'x'),
                               scratch_.path("new.tar.gz")));
  EXPECT_TRUE(find_envelope_member(scratch_.read("new.tar.gz").substr(0, kHeadBytes)));
}

base::Code code_of(const std::string& head) {
  const auto found = find_envelope_member(head);
  EXPECT_FALSE(found);
  return found ? base::Code::internal : found.error().code();
}

TEST(EnvelopeMember, What_is_no_artifact_is_refused_as_such) {
  const std::string entry = envelope_entry("{}");
  EXPECT_EQ(code_of("plain text"), base::Code::not_an_artifact);
  EXPECT_EQ(code_of(""), base::Code::not_an_artifact);
  EXPECT_EQ(code_of(gzip_member(tar_entry(file_fields("a", 1), "x"))), base::Code::not_an_artifact);
  EXPECT_EQ(code_of(zstd_frame(tar_entry(file_fields("a", 1), "x"))), base::Code::not_an_artifact);
  // an artifact that another tool compressed again, small and large
  EXPECT_EQ(code_of(gzip_member(entry + entry)), base::Code::not_an_artifact);
  EXPECT_EQ(code_of(zstd_frame(entry + std::string(1 << 20, 'x'))), base::Code::not_an_artifact);
}

TEST(EnvelopeMember, A_cut_or_damaged_first_member_is_refused_as_damage) {
  const std::string entry = envelope_entry("{}");
  for (const std::string& whole : {gzip_member(entry), zstd_frame(entry)}) {
    ASSERT_TRUE(find_envelope_member(whole));
    EXPECT_EQ(find_envelope_member(whole)->length, whole.size());
    EXPECT_EQ(find_envelope_member(whole + "more")->length, whole.size());
    for (std::size_t length = 4; length < whole.size(); ++length)
      EXPECT_EQ(code_of(whole.substr(0, length)), base::Code::artifact_damaged) << length;
    std::string flipped = whole;
    flipped[flipped.size() - 6] = static_cast<char>(flipped[flipped.size() - 6] ^ 1);
    EXPECT_FALSE(find_envelope_member(flipped));
  }
}

TEST_F(EnvelopeMemberTest, A_file_that_ends_behind_its_envelope_is_damaged) {
  scratch_.file("short.tar.gz", gzip_member(envelope_entry("{}")));
  const auto replaced =
      replace_envelope(scratch_.path("short.tar.gz"), "{}", scratch_.path("out.tar.gz"));
  ASSERT_FALSE(replaced);
  EXPECT_EQ(replaced.error().code(), base::Code::artifact_damaged);
  EXPECT_EQ(scratch_.names().size(), 1U);
}

}  // namespace
}  // namespace updagent::release::test
