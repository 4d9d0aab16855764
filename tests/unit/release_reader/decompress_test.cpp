#include "agent/release/decompress.hpp"

#include <gtest/gtest.h>

#include <array>

#include "tests/unit/release_reader/sample.hpp"

namespace updagent::testing {
namespace {

using base::Code;
using release::Decompressor;
using Bytes = std::span<const std::uint8_t>;

Bytes bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

base::Result<std::string> decompress(const std::string& file) {
  UPD_ASSIGN(Decompressor decompressor, Decompressor::for_head(bytes_of(file)));
  Bytes in = bytes_of(file);
  std::string out;
  std::array<std::uint8_t, 1000> block{};
  while (true) {
    UPD_ASSIGN(const release::DecodeStep step, decompressor.step(in, block));
    in = in.subspan(step.consumed);
    out.append(block.begin(), block.begin() + static_cast<std::ptrdiff_t>(step.produced));
    if (step.consumed == 0 && step.produced == 0) break;
  }
  UPD_TRY(decompressor.finish());
  return out;
}

base::Status status_of(const std::string& file) {
  UPD_TRY(decompress(file));
  return base::ok();
}

TEST(Decompressor, joins_gzip_members) {
  const auto out = decompress(gzip_member("one") + gzip_member(noise(5000)) + gzip_member("3"));
  ASSERT_TRUE(out) << out.error().line();
  EXPECT_EQ(*out, "one" + noise(5000) + "3");
}

TEST(Decompressor, joins_zstd_frames) {
  const auto out = decompress(zstd_frame("one") + zstd_frame(noise(5000)) + zstd_frame("3"));
  ASSERT_TRUE(out) << out.error().line();
  EXPECT_EQ(*out, "one" + noise(5000) + "3");
}

TEST(Decompressor, takes_a_zstd_window_of_8_MiB_and_no_larger_one) {
  const std::string content = noise(2000);
  EXPECT_TRUE(status_of(zstd_frame(content, {.window_log = 23})));
  expect_refused(status_of(zstd_frame(content, {.window_log = 24})), Code::header_unsupported,
                 "8 MiB", "more");
  expect_refused(status_of(zstd_frame(content, {.window_log = 27})), Code::header_unsupported,
                 "8 MiB", "more");
}

TEST(Decompressor, refuses_skippable_frames_wherever_they_stand) {
  const std::string skip = zstd_skippable_frame("hidden");
  const std::string frame = zstd_frame("data");
  expect_refused(status_of(skip + frame), Code::not_an_artifact, "", "skippable");
  expect_refused(status_of(frame + skip + frame), Code::header_unsupported, "data only", "");
  expect_refused(status_of(frame + skip), Code::header_unsupported, "data only", "");
}

TEST(Decompressor, refuses_zstd_without_checksum_or_with_a_dictionary) {
  const auto plain = status_of(zstd_frame("data", {.checksum = false}));
  expect_refused(plain, Code::header_unsupported, "a content checksum", "none");
  std::string dictionary = zstd_frame("data");
  dictionary[4] = static_cast<char>(dictionary[4] | 1);
  const auto refused = status_of(dictionary);
  expect_refused(refused, Code::header_unsupported, "no dictionary", "one");
}

TEST(Decompressor, refuses_zstd_with_a_bit_that_no_frame_has) {
  for (const int bit : {0x08, 0x10}) {
    std::string frame = zstd_frame("data");
    frame[4] = static_cast<char>(frame[4] | bit);
    expect_refused(status_of(frame), Code::header_unsupported, "reserved bits", "");
  }
}

TEST(Decompressor, refuses_gzip_with_a_name_or_anything_else_that_flags_announce) {
  for (int bit = 0; bit < 8; ++bit) {
    std::string member = gzip_member("data");
    member[3] = static_cast<char>(1 << bit);
    expect_refused(status_of(member), Code::header_unsupported, "no name", "0x");
    expect_refused(status_of(gzip_member("more") + member), Code::header_unsupported, "no name",
                   "0x");
  }
}

TEST(Decompressor, refuses_parts_that_hold_nothing) {
  for (const Packing packing : {Packing::gzip, Packing::zstd}) {
    const std::string empty = compressed_part("", packing);
    const std::string full = compressed_part("data", packing);
    for (const std::string& file : {empty, empty + full, full + empty, full + empty + full})
      expect_refused(status_of(file), Code::header_unsupported, "", "");
  }
}

TEST(Decompressor, refuses_bytes_behind_the_last_part) {
  for (const Packing packing : {Packing::gzip, Packing::zstd}) {
    const std::string full = compressed_part("data", packing);
    const std::string other =
        compressed_part("data", packing == Packing::gzip ? Packing::zstd : Packing::gzip);
    for (const std::string& tail : {std::string("x"), std::string(512, '\0'), other})
      expect_refused(status_of(full + tail), Code::artifact_damaged, "the end of the file",
                     "bytes");
  }
}

TEST(Decompressor, notices_a_wrong_checksum_and_a_wrong_length) {
  const std::string good = gzip_member("some data");
  for (std::size_t from_end = 1; from_end <= 8; ++from_end) {
    std::string bad = good;
    bad[bad.size() - from_end] = static_cast<char>(bad[bad.size() - from_end] ^ 1);
    expect_refused(status_of(bad), Code::artifact_damaged, "", "");
  }
  std::string frame = zstd_frame("some data");
  frame.back() = static_cast<char>(frame.back() ^ 1);
  expect_refused(status_of(frame), Code::artifact_damaged, "", "");
}

TEST(Decompressor, notices_every_truncation) {
  for (const Packing packing : {Packing::gzip, Packing::zstd}) {
    const std::string one = compressed_part(noise(300), packing);
    const std::string file = one + compressed_part("the second", packing);
    for (std::size_t size = 5; size < file.size(); ++size) {
      if (size == one.size()) continue;  // a whole file of one part
      expect_refused(status_of(file.substr(0, size)), Code::artifact_damaged, "", "");
    }
  }
}

struct Other {
  std::string bytes;
  const char* looks_like;
};

TEST(Decompressor, names_what_it_got_instead) {
  const std::vector<Other> others = {
      {"", "an empty file"},
      {"PK\x03\x04 zip", "a zip file"},
      {std::string("\xFD"
                   "7zXZ\0 xz",
                   9),
       "an xz file"},
      {"BZh91AY", "a bzip2 file"},
      {"\n <!DOCTYPE html><html>", "an HTML page"},
      {"<HTML><body>404", "an HTML page"},
      {"{\"error\":\"not found\"}", "a JSON document"},
      {"-----BEGIN PUBLIC KEY-----", "a PEM file"},
      {std::string("\x7F"
                   "ELF\x02",
                   5),
       "an ELF program"},
      {tar_entry(file_fields("a", 0)), "a tar file that is not compressed"},
      {"\x01\x02\x03\x04\x05", "bytes 01 02 03 04"},
  };
  for (const Other& other : others)
    expect_refused(status_of(other.bytes), Code::not_an_artifact, "updagent pack",
                   other.looks_like);
}

TEST(Decompressor, says_how_a_plain_tar_file_becomes_a_release) {
  const auto status = status_of(tar_entry(file_fields("a", 0)));
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().hint().find("updagent pack FILE --key KEY -o OUT"), std::string::npos);
}

}  // namespace
}  // namespace updagent::testing
