#include "agent/release/compress.hpp"

#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include <string>

#include "agent/base/digest.hpp"

namespace updagent::release {
namespace {

using Bytes = std::span<const std::uint8_t>;

Bytes bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

// Text that compresses like text, the same at every call.
std::string sample(std::size_t size) {
  std::string text;
  std::uint32_t state = 7;
  while (text.size() < size) {
    state = state * 1664525 + 1013904223;
    text += "line " + std::to_string(state >> 20) + "\n";
  }
  return text;
}

std::string compressed(Compression compression, std::string_view text, std::size_t piece,
                       int level = 0) {
  std::string out;
  auto made = Compressor::make(compression, level, [&](Bytes bytes) {
    out.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return base::ok();
  });
  EXPECT_TRUE(made);
  for (; !text.empty(); text.remove_prefix(std::min(piece, text.size())))
    EXPECT_TRUE((*made)->write(bytes_of(text.substr(0, piece))));
  EXPECT_TRUE((*made)->end_member());
  return out;
}

TEST(Compress, The_output_does_not_depend_on_the_size_of_the_pieces) {
  const std::string text = sample(1'000'000);
  for (const Compression compression : {Compression::gzip, Compression::zstd}) {
    const std::string at_once = compressed(compression, text, text.size());
    EXPECT_EQ(at_once, compressed(compression, text, 1000));
    EXPECT_EQ(at_once, compressed(compression, text, 65537));
    EXPECT_LT(at_once.size(), text.size() / 2);
  }
}

TEST(Compress, A_gzip_header_says_nothing_about_time_name_or_machine) {
  const std::string out = compressed(Compression::gzip, "x", 1);
  ASSERT_GT(out.size(), 10U);
  EXPECT_EQ(out.substr(0, 10), std::string("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff", 10));
}

TEST(Compress, Every_gzip_member_has_the_same_header) {
  std::string out;
  auto made = Compressor::make(Compression::gzip, 0, [&](Bytes bytes) {
    out.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return base::ok();
  });
  ASSERT_TRUE(made);
  ASSERT_TRUE((*made)->write(bytes_of("same")));
  ASSERT_TRUE((*made)->end_member());
  const std::string first = out;
  out.clear();
  ASSERT_TRUE((*made)->write(bytes_of("same")));
  ASSERT_TRUE((*made)->end_member());
  EXPECT_EQ(out, first);
}

TEST(Compress, A_zstd_frame_has_a_checksum_and_a_window_of_8_MiB_at_most_on_every_level) {
  const std::string text = sample(200'000);  // more than a block: its size is not known at first
  for (const int level : {1, 10, 19, 20, 22}) {
    const std::string out = compressed(Compression::zstd, text, 100'000, level);
    ASSERT_GT(out.size(), 6U);
    const auto descriptor = static_cast<unsigned char>(out[4]);  // RFC 8878, 3.1.1.1.1
    EXPECT_NE(descriptor & 0x04, 0) << "no content checksum at level " << level;
    ASSERT_EQ(descriptor & 0x20, 0) << "single segment: the window is the content";
    const unsigned exponent = static_cast<unsigned char>(out[5]) >> 3;
    EXPECT_LE(10 + exponent, 23U) << "level " << level;
  }
}

TEST(Compress, What_was_compressed_comes_back) {
  const std::string text = sample(500'000);
  std::string back(text.size(), '\0');
  const std::string frame = compressed(Compression::zstd, text, 4096);
  EXPECT_EQ(ZSTD_decompress(back.data(), back.size(), frame.data(), frame.size()), text.size());
  EXPECT_EQ(back, text);
  const std::string member = compressed(Compression::gzip, text, 4096);
  z_stream stream{};
  ASSERT_EQ(inflateInit2(&stream, 31), Z_OK);
  back.assign(text.size(), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(member.data()));
  stream.avail_in = static_cast<uInt>(member.size());
  stream.next_out = reinterpret_cast<Bytef*>(back.data());
  stream.avail_out = static_cast<uInt>(back.size());
  EXPECT_EQ(inflate(&stream, Z_FINISH), Z_STREAM_END);
  inflateEnd(&stream);
  EXPECT_EQ(back, text);
}

TEST(Compress, A_level_that_the_format_does_not_have_is_refused_with_the_range) {
  const auto sink = [](Bytes) { return base::ok(); };
  const auto gzip = Compressor::make(Compression::gzip, 10, sink);
  ASSERT_FALSE(gzip);
  EXPECT_EQ(gzip.error().code(), base::Code::usage);
  EXPECT_EQ(gzip.error().expected(), "1 to 9");
  EXPECT_EQ(gzip.error().got(), "10");
  const auto zstd = Compressor::make(Compression::zstd, -1, sink);
  ASSERT_FALSE(zstd);
  EXPECT_EQ(zstd.error().expected(), "1 to 22");
  EXPECT_EQ(zstd.error().got(), "-1");
}

TEST(Compress, A_sink_that_fails_ends_the_compression_with_its_error) {
  for (const Compression compression : {Compression::gzip, Compression::zstd}) {
    auto made = Compressor::make(compression, 0, [](Bytes) {
      return base::Status(base::Error(base::Code::no_space, "disk full"));
    });
    ASSERT_TRUE(made);
    ASSERT_TRUE((*made)->write(bytes_of("x")));
    const auto end = (*made)->end_member();
    ASSERT_FALSE(end);
    EXPECT_EQ(end.error().code(), base::Code::no_space);
  }
}

}  // namespace
}  // namespace updagent::release
