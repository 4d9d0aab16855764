#include "agent/release/tar_writer.hpp"

#include <gtest/gtest.h>

#include <string>

#include "agent/release/tar_header.hpp"

namespace updagent::release {
namespace {

using Bytes = std::span<const std::uint8_t>;

EntryView file(std::string_view path, std::uint64_t size = 0) {
  return {.path = path,
          .type = EntryType::file,
          .mode = 0644,
          .size = size,
          .mtime = 1718730000,
          .sha256 = {},
          .link_target = {}};
}

EntryView directory(std::string_view path) {
  EntryView entry = file(path);
  entry.type = EntryType::directory;
  entry.mode = 0755;
  return entry;
}

EntryView link(EntryType type, std::string_view path, std::string_view target) {
  EntryView entry = file(path);
  entry.type = type;
  entry.link_target = target;
  return entry;
}

Bytes bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

TarBlock block(const std::string& header, std::size_t number) {
  return bytes_of(header).subspan(number * kTarBlock).first<kTarBlock>();
}

// What the strict reader makes of the header.
TarHeader decoded(const std::string& header) {
  PaxRecords pax;
  std::size_t number = 0;
  const auto pax_size = decode_pax_size(block(header, 0));
  EXPECT_TRUE(pax_size) << pax_size.error().line();
  if (pax_size && *pax_size) {
    const auto records = decode_pax_records(
        std::string_view(header).substr(kTarBlock, static_cast<std::size_t>(**pax_size)));
    EXPECT_TRUE(records) << records.error().line();
    if (records) pax = *records;
    number = header.size() / kTarBlock - 1;
  }
  auto read = decode_tar_header(block(header, number), pax);
  EXPECT_TRUE(read) << read.error().line();
  return read ? *read : TarHeader();
}

std::string header_of(const EntryView& entry) {
  auto header = tar_header(entry);
  EXPECT_TRUE(header);
  return header ? *header : std::string();
}

std::string path_of_length(std::size_t length, std::size_t component) {
  std::string path;
  while (path.size() < length) path += path.size() % (component + 1) == component ? '/' : 'p';
  if (path.back() == '/') path.back() = 'p';
  return path;
}

TEST(TarWriter, A_plain_file_takes_one_block_that_holds_all_it_needs) {
  const std::string header = header_of(file("bin/shop", 1234));
  ASSERT_EQ(header.size(), kTarBlock);
  EXPECT_EQ(header.substr(0, 9), std::string("bin/shop\0", 9));
  EXPECT_EQ(header.substr(100, 24), std::string("0000644\0"
                                                "0000000\0"
                                                "0000000\0",
                                                24));
  EXPECT_EQ(header.substr(124, 12), std::string("00000002322\0", 12));
  EXPECT_EQ(header.substr(156, 1), "0");
  EXPECT_EQ(header.substr(257, 8), std::string("ustar\0"
                                               "00",
                                               8));
  EXPECT_EQ(header.substr(265, 64), std::string(64, '\0')) << "owner names are left empty";
  const TarHeader back = decoded(header);
  EXPECT_EQ(back.path, "bin/shop");
  EXPECT_EQ(back.size, 1234U);
  EXPECT_EQ(back.mode, 0644);
  EXPECT_EQ(back.mtime, 1718730000);
}

TEST(TarWriter, Links_and_directories_keep_type_target_and_slash) {
  const TarHeader folder = decoded(header_of(directory("bin")));
  EXPECT_EQ(folder.type, EntryType::directory);
  EXPECT_EQ(folder.path, "bin");
  EXPECT_EQ(header_of(directory("bin")).substr(0, 5), std::string("bin/\0", 5));
  const TarHeader symlink = decoded(header_of(link(EntryType::symlink, "cur", "../a b")));
  EXPECT_EQ(symlink.type, EntryType::symlink);
  EXPECT_EQ(symlink.link_target, "../a b");
  const TarHeader hard = decoded(header_of(link(EntryType::hardlink, "y", "bin/x")));
  EXPECT_EQ(hard.type, EntryType::hardlink);
  EXPECT_EQ(hard.link_target, "bin/x");
}

// Around every limit of name and prefix; the reader refuses a pax record where none is needed.
TEST(TarWriter, Paths_of_every_length_come_back_and_use_pax_only_where_they_must) {
  for (const std::size_t component : {20U, 99U, 100U, 101U, 154U, 155U, 156U, 200U, 255U}) {
    for (std::size_t length = 90; length <= 300; ++length) {
      const std::string path = path_of_length(length, component);
      EXPECT_EQ(decoded(header_of(file(path))).path, path) << length << " of " << component;
      EXPECT_EQ(decoded(header_of(directory(path))).path, path) << length << " of " << component;
    }
  }
  EXPECT_EQ(header_of(file(std::string(100, 'n'))).size(), kTarBlock);
  EXPECT_EQ(header_of(file(std::string(101, 'n'))).size(), 3 * kTarBlock);
  EXPECT_EQ(header_of(directory(std::string(99, 'n'))).size(), kTarBlock);
  EXPECT_EQ(header_of(directory(std::string(100, 'n'))).size(), 3 * kTarBlock);
  EXPECT_EQ(header_of(file(std::string(155, 'p') + '/' + std::string(100, 'n'))).size(), kTarBlock);
  EXPECT_EQ(header_of(file(std::string(156, 'p') + '/' + std::string(100, 'n'))).size(),
            3 * kTarBlock);
}

TEST(TarWriter, The_longest_path_and_target_go_through_pax) {
  const std::string path = path_of_length(kMaxPathBytes, 200);
  const std::string target = path_of_length(kMaxPathBytes - 1, 100);
  const TarHeader back = decoded(header_of(link(EntryType::symlink, path, target)));
  EXPECT_EQ(back.path, path);
  EXPECT_EQ(back.link_target, target);
}

TEST(TarWriter, A_target_of_100_bytes_needs_no_pax_and_one_of_101_does) {
  const std::string fits(100, 't');
  const std::string long_one(101, 't');
  EXPECT_EQ(header_of(link(EntryType::symlink, "l", fits)).size(), kTarBlock);
  EXPECT_EQ(decoded(header_of(link(EntryType::symlink, "l", fits))).link_target, fits);
  EXPECT_EQ(header_of(link(EntryType::symlink, "l", long_one)).size(), 3 * kTarBlock);
  EXPECT_EQ(decoded(header_of(link(EntryType::symlink, "l", long_one))).link_target, long_one);
}

TEST(TarWriter, A_file_past_8_GiB_has_its_size_in_pax) {
  EXPECT_EQ(header_of(file("big", kMaxUstarSize)).size(), kTarBlock);
  EXPECT_EQ(decoded(header_of(file("big", kMaxUstarSize))).size, kMaxUstarSize);
  EXPECT_EQ(header_of(file("big", kMaxUstarSize + 1)).size(), 3 * kTarBlock);
  EXPECT_EQ(decoded(header_of(file("big", kMaxUstarSize + 1))).size, kMaxUstarSize + 1);
}

TEST(TarWriter, A_clipped_name_does_not_end_inside_a_character) {
  std::string path(99, 'n');
  path +=
      "\xc3\xa9"
      "end";  // the two bytes of e-acute stand on both sides of the limit
  const std::string header = header_of(file(path));
  const std::string name = header.substr(2 * kTarBlock, 100);
  EXPECT_EQ(name, std::string(99, 'n') + '\0');
}

TEST(TarWriter, A_time_that_tar_cannot_say_is_refused) {
  EntryView entry = file("x");
  entry.mtime = kMaxTime;
  EXPECT_EQ(decoded(header_of(entry)).mtime, kMaxTime);
  entry.mtime = kMaxTime + 1;
  const auto header = tar_header(entry);
  ASSERT_FALSE(header);
  EXPECT_EQ(header.error().got(), "8589934592");
  entry.mtime = -1;
  EXPECT_FALSE(tar_header(entry));
}

TEST(TarWriter, Content_is_padded_and_must_be_as_long_as_the_header_says) {
  std::string out;
  TarWriter tar([&](Bytes bytes) {
    out.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return base::ok();
  });
  ASSERT_TRUE(tar.begin(file("x", 3)));
  EXPECT_FALSE(tar.content(bytes_of("four")));
  ASSERT_TRUE(tar.content(bytes_of("ab")));
  EXPECT_FALSE(tar.end());
  ASSERT_TRUE(tar.content(bytes_of("c")));
  ASSERT_TRUE(tar.end());
  EXPECT_EQ(out.size(), 2 * kTarBlock);
  EXPECT_EQ(out.substr(kTarBlock), "abc" + std::string(kTarBlock - 3, '\0'));
  ASSERT_TRUE(tar.finish());
  EXPECT_EQ(out.substr(2 * kTarBlock), std::string(2 * kTarBlock, '\0'));
}

}  // namespace
}  // namespace updagent::release
