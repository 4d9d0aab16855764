#include "agent/release/tar_header.hpp"

#include <gtest/gtest.h>

#include "agent/release/tar_profile.hpp"
#include "agent/release/tar_writer.hpp"
#include "tests/unit/release_reader/sample.hpp"

namespace updagent::testing {
namespace {

using base::Code;
using release::EntryType;
using release::PaxRecords;
using release::TarHeader;

base::Result<TarHeader> decode(const std::string& block, const PaxRecords& pax = {}) {
  return release::decode_tar_header(
      std::span(reinterpret_cast<const std::uint8_t*>(block.data()), block.size())
          .first<release::kTarBlock>(),
      pax);
}

base::Status status_of(const TarFields& fields, const PaxRecords& pax = {}) {
  UPD_TRY(decode(tar_block(fields), pax));
  return base::ok();
}

TarFields good() {
  return file_fields("bin/run", 5, 0755, 1234);
}

TEST(Tar_header, of_a_file_is_decoded) {
  const auto header = decode(tar_block(good()));
  ASSERT_TRUE(header) << header.error().line();
  EXPECT_EQ(header->path, "bin/run");
  EXPECT_EQ(header->type, EntryType::file);
  EXPECT_EQ(header->mode, 0755);
  EXPECT_EQ(header->size, 5U);
  EXPECT_EQ(header->mtime, 1234);
  EXPECT_EQ(header->link_target, "");
}

TEST(Tar_header, of_a_directory_loses_the_slash_of_its_path) {
  const auto header = decode(tar_block(directory_fields("bin/")));
  ASSERT_TRUE(header) << header.error().line();
  EXPECT_EQ(header->path, "bin");
  EXPECT_EQ(header->type, EntryType::directory);
}

TEST(Tar_header, joins_prefix_and_name_that_fill_their_fields) {
  TarFields fields = good();
  fields.prefix = std::string(155, 'p');
  fields.name = std::string(100, 'n');
  const auto header = decode(tar_block(fields));
  ASSERT_TRUE(header) << header.error().line();
  EXPECT_EQ(header->path, std::string(155, 'p') + "/" + std::string(100, 'n'));
}

TEST(Tar_header, takes_empty_device_numbers_and_octal_that_ends_in_a_space) {
  TarFields fields = good();
  fields.devmajor = fields.devminor = "";
  fields.mode = "000755 ";
  fields.size = "5 ";
  EXPECT_TRUE(status_of(fields));
}

struct BadField {
  const char* what;
  std::string TarFields::* field;
  std::string bytes;
  Code code;
};

TEST(Tar_header, refuses_every_other_spelling) {
  const auto dialect = Code::header_unsupported;
  const std::vector<BadField> table = {
      {"GNU magic", &TarFields::magic, "ustar ", dialect},
      {"old tar", &TarFields::magic, "", dialect},
      {"version", &TarFields::version, "0\0", dialect},
      {"GNU version", &TarFields::version, " ", dialect},
      {"no name", &TarFields::name, "", dialect},
      {"text behind the name", &TarFields::name, std::string("a\0b", 3), dialect},
      {"text behind the prefix", &TarFields::prefix, std::string("a\0b", 3), dialect},
      {"a file with a slash", &TarFields::name, "bin/run/", dialect},
      {"no mode", &TarFields::mode, "", dialect},
      {"mode of spaces", &TarFields::mode, "       ", dialect},
      {"setuid", &TarFields::mode, octal_field(04755, 8), Code::mode_unsafe},
      {"setgid", &TarFields::mode, octal_field(02755, 8), Code::mode_unsafe},
      {"sticky", &TarFields::mode, octal_field(01755, 8), Code::mode_unsafe},
      {"mode with a file type", &TarFields::mode, octal_field(0100755, 8), Code::mode_unsafe},
      {"user", &TarFields::uid, octal_field(1000, 8), dialect},
      {"group", &TarFields::gid, octal_field(1000, 8), dialect},
      {"user name", &TarFields::uname, "root", dialect},
      {"group name", &TarFields::gname, "root", dialect},
      {"user name behind a NUL", &TarFields::uname, std::string("\0root", 5), dialect},
      {"base-256 size", &TarFields::size, base256_field(5, 12), dialect},
      {"negative base-256 size", &TarFields::size, std::string(12, '\xFF'), dialect},
      {"negative octal size", &TarFields::size, "-0000000005", dialect},
      {"size without terminator", &TarFields::size, "000000000005", dialect},
      {"leading space", &TarFields::size, " 0000000005", dialect},
      {"hexadecimal", &TarFields::size, "0x5", dialect},
      {"digit 8", &TarFields::size, "00000000008", dialect},
      {"text behind the size", &TarFields::size, std::string("5\0 7", 4), dialect},
      {"base-256 mtime", &TarFields::mtime, base256_field(5, 12), dialect},
      {"a target on a file", &TarFields::linkname, "x", dialect},
      {"device number", &TarFields::devmajor, octal_field(8, 8), dialect},
      {"device number behind a NUL", &TarFields::devminor,
       std::string("\0"
                   "1",
                   2),
       dialect},
      {"bytes at the end", &TarFields::end, "x", dialect},
  };
  for (const BadField& bad : table) {
    TarFields fields = good();
    fields.*bad.field = bad.bytes;
    const auto status = status_of(fields);
    ASSERT_FALSE(status) << bad.what;
    EXPECT_EQ(status.error().code_name(), base::info(bad.code).name)
        << bad.what << ": " << status.error().line();
    EXPECT_FALSE(status.error().expected().empty()) << bad.what;
    EXPECT_FALSE(status.error().got().empty()) << bad.what;
  }
}

TEST(Tar_header, refuses_every_other_typeflag_by_name) {
  for (int flag = 0; flag < 256; ++flag) {
    TarFields fields = good();
    fields.typeflag = static_cast<char>(flag);
    if (std::string_view("0125").find(fields.typeflag) != std::string_view::npos) continue;
    expect_refused(status_of(fields), Code::header_unsupported, "'5' directory", "'");
  }
  TarFields fields = good();
  fields.typeflag = '6';
  expect_refused(status_of(fields), Code::header_unsupported, "", "a fifo");
  fields.typeflag = 'L';
  expect_refused(status_of(fields), Code::header_unsupported, "", "a GNU long name");
}

TEST(Tar_header, refuses_a_checksum_that_does_not_fit_as_damage) {
  std::string block = tar_block(good());
  block[0] = 'B';
  EXPECT_EQ(decode(block).error().code(), Code::artifact_damaged);

  // the sum of signed bytes, as some old programs wrote it and most accept
  TarFields fields = good();
  fields.name = "\xC3\xA9";
  const std::string right = tar_checksum(tar_block(fields));
  fields.checksum = octal_field(std::stoul(right, nullptr, 8) - 512, 7) + " ";
  EXPECT_EQ(decode(tar_block(fields)).error().code(), Code::artifact_damaged);
}

TEST(Tar_header, refuses_a_size_on_what_has_no_data) {
  for (const char flag : {'1', '2', '5'}) {
    TarFields fields = flag == '5' ? directory_fields("a/") : link_fields(flag, "a", "b", 0644);
    EXPECT_TRUE(status_of(fields)) << flag;
    fields.size = octal_field(1, 12);
    expect_refused(status_of(fields), Code::header_unsupported, "0", "1");
  }
}

TEST(Tar_header, refuses_links_without_and_directories_without_slash) {
  expect_refused(status_of(link_fields('2', "a", "", 0777)), Code::header_unsupported, "a target",
                 "");
  expect_refused(status_of(directory_fields("a")), Code::header_unsupported, "'/'", "a");
  expect_refused(status_of(directory_fields("/")), Code::header_unsupported, "'/'", "");
}

TEST(Tar_header, takes_pax_records_only_where_ustar_is_too_small) {
  PaxRecords pax;
  pax.path = "bin/run";
  expect_refused(status_of(good(), pax), Code::header_unsupported, "no record", "bin/run");
  pax.path = std::string(155, 'p') + "/" + std::string(100, 'n');
  expect_refused(status_of(good(), pax), Code::header_unsupported, "no record", "ppp");
  pax.path = std::string(156, 'p') + "/" + std::string(100, 'n');
  const auto header = decode(tar_block(good()), pax);
  ASSERT_TRUE(header) << header.error().line();
  EXPECT_EQ(header->path, *pax.path);

  PaxRecords size;
  size.size = 5;
  expect_refused(status_of(good(), size), Code::header_unsupported, "no record", "5");
  size.size = release::kMaxUstarSize + 1;
  EXPECT_EQ(decode(tar_block(good()), size)->size, release::kMaxUstarSize + 1);

  PaxRecords link;
  link.linkpath = std::string(100, 't');
  expect_refused(status_of(link_fields('2', "a", "t", 0777), link), Code::header_unsupported,
                 "no record", "ttt");
  link.linkpath = std::string(101, 't');
  EXPECT_EQ(decode(tar_block(link_fields('2', "a", "t", 0777)), link)->link_target, *link.linkpath);
  expect_refused(status_of(good(), link), Code::header_unsupported, "empty", "ttt");
}

TEST(Pax_records, are_read) {
  const auto records = release::decode_pax_records(
      pax_record("linkpath", "a=b c\n") + pax_record("path", "p") + pax_record("size", "123"));
  ASSERT_TRUE(records) << records.error().line();
  EXPECT_EQ(records->linkpath, "a=b c\n");
  EXPECT_EQ(records->path, "p");
  EXPECT_EQ(records->size, 123U);
}

TEST(Pax_records, are_refused_unless_well_formed_and_known) {
  const std::vector<std::string> bad = {
      "x",
      "9 path=xy",     // no newline
      "11 path=x\n",   // length too large
      "8 path=x\n",    // too small
      "010 path=x\n",  // leading zero
      "+10 path=x\n",
      " 10 path=x\n",
      "0 path=x\n",
      "2 \n",
      "99999999999999999999 path=x\n",
      "7 path\n",                        // no '='
      std::string("11 path=x\0\n", 11),  // NUL in the value
      pax_record("size", "-1"),
      pax_record("size", "0x10"),
      pax_record("size", "007"),
      pax_record("size", "9223372036854775807"),
      pax_record("size", "18446744073709551616"),
      pax_record("size", ""),
      pax_record("path", "a") + pax_record("path", "b"),
      pax_record("", "x"),
      pax_record("mtime", "1.5"),
      pax_record("uid", "0"),
      pax_record("uname", "root"),
      pax_record("hdrcharset", "BINARY"),
      pax_record("SCHILY.xattr.security.capability", "x"),
      pax_record("LIBARCHIVE.xattr.user.a", "eA=="),
      pax_record("SCHILY.acl.access", "user::rwx"),
      pax_record("GNU.sparse.major", "1"),
      pax_record("GNU.sparse.name", "other"),
      pax_record("Path", "x"),
  };
  for (const std::string& records : bad) {
    const auto status = release::decode_pax_records(records);
    ASSERT_FALSE(status) << records;
    EXPECT_EQ(status.error().code(), Code::header_unsupported) << status.error().line();
  }
}

TEST(Tar_header, takes_what_the_writer_makes_at_every_length_of_path_and_target) {
  for (std::size_t length = 1; length < 300; ++length) {
    std::string path;
    while (path.size() < length) path += path.size() % 60 == 30 ? '/' : 'p';
    if (path.back() == '/') path.back() = 'p';
    const release::EntryView link{path, EntryType::symlink, 0777, 0, 9, {}, path};
    const release::EntryView directory{path, EntryType::directory, 0755, 0, 9, {}, ""};
    const release::EntryView large{
        path, EntryType::file, 0644, release::kMaxUstarSize + length, 9, {}, ""};
    for (const release::EntryView& entry : {link, directory, large}) {
      const auto blocks = release::tar_header(entry);
      ASSERT_TRUE(blocks);
      release::TarProfile profile;
      const std::span bytes(reinterpret_cast<const std::uint8_t*>(blocks->data()), blocks->size());
      ASSERT_EQ(profile.feed(bytes), bytes.size()) << profile.failure()->line();
      const auto header = profile.take_header();
      ASSERT_TRUE(header);
      EXPECT_EQ(header->path, path);
      EXPECT_EQ(header->type, entry.type);
      EXPECT_EQ(header->size, entry.size);
      EXPECT_EQ(header->link_target, entry.link_target);
    }
  }
}

}  // namespace
}  // namespace updagent::testing
