// Every way in which an artifact can be wrong, and the refusal that it gets. What does not fit the
// manifest never reaches the sink.
#include <gtest/gtest.h>

#include <functional>

#include "tests/unit/release_reader/sample.hpp"

namespace updagent::testing {
namespace {

using base::Code;
using release::EntryType;

Outcome read_small(const ArtifactPieces& pieces, Packing packing = Packing::gzip) {
  return read_artifact(pieces.build(packing), small_sample());
}

ArtifactPieces small_pieces() {
  return small_sample().pieces();
}

const std::vector<std::string> kAllCalls = {"dir bin",      "file bin/run", "end",
                                            "symlink link", "file readme",  "end"};

// --- damage on the way ---------------------------------------------------------------------------

class Damage : public ::testing::TestWithParam<Packing> {};
INSTANTIATE_TEST_SUITE_P(Of, Damage, ::testing::Values(Packing::gzip, Packing::zstd),
                         [](const auto& test) {
                           return test.param == Packing::gzip ? "gzip" : "zstd";
                         });

TEST_P(Damage, a_truncation_at_any_64th_is_refused) {
  const Sample good = sample();
  const std::string bytes = good.pieces().build(GetParam());
  for (std::size_t part = 1; part < 64; ++part) {
    const Outcome outcome =
        read_artifact(std::string_view(bytes).substr(0, bytes.size() * part / 64), good);
    expect_refused(outcome.status, Code::artifact_damaged, "", "");
    EXPECT_TRUE(outcome.ended_too_early) << part << " of 64";
  }
  expect_refused(read_artifact("", good).status, Code::not_an_artifact, "", "an empty file");
}

TEST_P(Damage, a_truncation_of_the_last_bytes_is_refused) {
  const Sample good = small_sample();
  const std::string bytes = good.pieces().build(GetParam());
  constexpr std::size_t kMagics = 5;  // shorter ones are not told from other files
  for (std::size_t size = kMagics; size < bytes.size(); ++size)
    expect_refused(read_artifact(std::string_view(bytes).substr(0, size), good).status,
                   Code::artifact_damaged, "", "");
}

// gzip's header has free fields: time, level and system are not the contents'.
bool is_free_gzip_byte(std::size_t at, std::size_t second_member) {
  const std::size_t in_member = at >= second_member ? at - second_member : at;
  return in_member >= 4 && in_member < 10;
}

TEST_P(Damage, a_flipped_bit_anywhere_is_refused) {
  const Sample good = small_sample();
  const std::string bytes = good.pieces().build(GetParam());
  const std::size_t second = compressed_part(good.pieces().envelope, GetParam()).size();
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    if (GetParam() == Packing::gzip && is_free_gzip_byte(at, second)) continue;
    for (const int bit : {0, 3, 7}) {
      std::string bad = bytes;
      bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
      const Outcome outcome = read_artifact(bad, good);
      const bool same = outcome.status && outcome.envelope == good.envelope &&
                        outcome.manifest == good.manifest && outcome.sink.calls == kAllCalls;
      ASSERT_FALSE(outcome.status && !same) << "taken, but different, at " << at;
      // one bit of a deflate stream may be without meaning; then nothing but the file changed
      if (!outcome.status) {
        EXPECT_EQ(outcome.status.error().exit(), base::Exit::refused);
      }
    }
  }
}

TEST(Bad_artifact, with_a_flipped_bit_in_any_block_behind_good_checksums_is_refused) {
  const Sample good = small_sample();
  const ArtifactPieces pieces = good.pieces();
  const std::string rest = pieces.rest();
  for (std::size_t at = 0; at < rest.size(); at += 5) {
    std::string bad = rest;
    bad[at] = static_cast<char>(bad[at] ^ 0x04);
    const Outcome outcome = read_artifact(gzip_member(pieces.envelope) + gzip_member(bad, 0), good);
    ASSERT_FALSE(outcome.status) << "byte " << at;
    EXPECT_EQ(outcome.status.error().exit(), base::Exit::refused) << outcome.status.error().line();
  }
}

TEST_P(Damage, bytes_behind_the_end_are_refused) {
  const Sample good = small_sample();
  const std::string bytes = good.pieces().build(GetParam());
  for (const std::string& tail :
       {std::string(1, '\0'), std::string("garbage"),
        compressed_part(std::string(512, '\0'), GetParam()),
        compressed_part(tar_entry(file_fields("evil", 0)), GetParam()), bytes}) {
    const Outcome outcome = read_artifact(bytes + tail, good);
    expect_refused(outcome.status, Code::artifact_damaged, "", "");
    EXPECT_EQ(outcome.sink.calls, kAllCalls);
  }
  expect_refused(read_artifact(bytes + compressed_part("", GetParam()), good).status,
                 Code::header_unsupported, "", "");
}

TEST(Bad_artifact, with_a_skippable_zstd_frame_anywhere_is_refused) {
  const ArtifactPieces pieces = small_pieces();
  const std::string skip = zstd_skippable_frame("hidden");
  const std::string first = zstd_frame(pieces.envelope);
  const std::string second = zstd_frame(pieces.rest());
  const Sample good = small_sample();
  expect_refused(read_artifact(skip + first + second, good).status, Code::not_an_artifact, "",
                 "skippable");
  expect_refused(read_artifact(first + skip + second, good).status, Code::header_unsupported,
                 "data only", "");
  expect_refused(read_artifact(first + second + skip, good).status, Code::header_unsupported,
                 "data only", "");
}

TEST(Bad_artifact, that_needs_a_zstd_window_of_128_MiB_is_refused) {
  const ArtifactPieces pieces = small_pieces();
  const std::string file =
      zstd_frame(pieces.envelope) + zstd_frame(pieces.rest(), {.window_log = 27});
  expect_refused(read_artifact(file, small_sample()).status, Code::header_unsupported, "8 MiB",
                 "more");
}

TEST(Bad_artifact, that_mixes_gzip_and_zstd_is_refused) {
  const ArtifactPieces pieces = small_pieces();
  const std::string file = gzip_member(pieces.envelope) + zstd_frame(pieces.rest());
  expect_refused(read_artifact(file, small_sample()).status, Code::artifact_damaged, "gzip member",
                 "28 b5");
}

// --- envelope and manifest -----------------------------------------------------------------------

TEST(Bad_artifact, whose_envelope_shares_its_member_is_refused) {
  const ArtifactPieces pieces = small_pieces();
  for (const Packing packing : {Packing::gzip, Packing::zstd}) {
    const std::string whole = pieces.envelope + pieces.rest();
    expect_refused(read_artifact(compressed_part(whole, packing), small_sample()).status,
                   Code::header_unsupported, "1024 bytes", "more");
    for (const std::size_t cut : {std::size_t{512}, std::size_t{700}, std::size_t{1023}}) {
      const std::string split = compressed_part(whole.substr(0, cut), packing) +
                                compressed_part(whole.substr(cut), packing);
      expect_refused(read_artifact(split, small_sample()).status, Code::header_unsupported,
                     "1024 bytes", std::to_string(cut));
    }
    const std::string late = compressed_part(whole.substr(0, 1536), packing) +
                             compressed_part(whole.substr(1536), packing);
    expect_refused(read_artifact(late, small_sample()).status, Code::header_unsupported,
                   "1024 bytes", "more");
    const std::string early = compressed_part(whole.substr(0, 100), packing) +
                              compressed_part(whole.substr(100), packing);
    expect_refused(read_artifact(early, small_sample()).status, Code::not_an_artifact, "", "");
  }
}

TEST(Bad_artifact, that_is_an_ordinary_tarball_is_told_about_pack) {
  TarFields gnu = file_fields("package/index.js", 3);
  gnu.magic = "ustar ";
  gnu.version = " ";
  gnu.uid = octal_field(1000, 8);
  TarFields old = file_fields("package/old", 3);
  old.magic = old.version = "";
  for (const TarFields& fields : {file_fields("package/a", 3), gnu, old}) {
    const std::string tarball = gzip_member(tar_entry(fields, "abc") + end_of_archive());
    const Outcome outcome = read_artifact(tarball, small_sample());
    expect_refused(outcome.status, Code::not_an_artifact, release::kEnvelopePath,
                   "'" + fields.name + "'");
    EXPECT_NE(outcome.status.error().hint().find("updagent pack FILE --key KEY -o OUT"),
              std::string::npos);
    // cut short it is still an ordinary tarball
    const std::string large =
        gzip_member(tar_entry(file_fields("package/a", 600'000), noise(600'000)));
    expect_refused(read_artifact(large.substr(0, large.size() / 2), small_sample()).status,
                   Code::not_an_artifact, release::kEnvelopePath, "package/a");
  }
}

TEST(Bad_artifact, that_is_a_compressed_text_is_refused) {
  expect_refused(read_artifact(gzip_member("just a log file\n"), small_sample()).status,
                 Code::not_an_artifact, release::kEnvelopePath, "not a tar archive");
}

TEST(Bad_artifact, that_begins_with_the_manifest_is_refused) {
  ArtifactPieces pieces = small_pieces();
  std::swap(pieces.envelope, pieces.manifest);
  expect_refused(read_small(pieces).status, Code::not_an_artifact, release::kEnvelopePath,
                 release::kManifestPath);
}

TEST(Bad_artifact, without_or_with_a_late_manifest_is_refused) {
  ArtifactPieces none = small_pieces();
  none.manifest.clear();
  expect_refused(read_small(none).status, Code::entry_missing, release::kManifestPath, "bin");

  ArtifactPieces late = small_pieces();
  std::swap(late.manifest, late.entries[0]);
  const Outcome outcome = read_small(late);
  expect_refused(outcome.status, Code::entry_missing, release::kManifestPath, "bin");
  EXPECT_TRUE(outcome.sink.calls.empty());

  ArtifactPieces nothing = small_pieces();
  nothing.manifest.clear();
  nothing.entries.clear();
  expect_refused(read_small(nothing).status, Code::entry_missing, release::kManifestPath,
                 "the end of the archive");
}

TEST(Bad_artifact, with_a_second_envelope_or_manifest_is_refused) {
  ArtifactPieces second = small_pieces();
  second.entries.push_back(second.manifest);
  expect_refused(read_small(second).status, Code::entry_extra, "", "");

  ArtifactPieces directly = small_pieces();
  directly.manifest += directly.manifest;
  const Outcome outcome = read_small(directly);
  expect_refused(outcome.status, Code::entry_extra, "", "");
  EXPECT_NE(outcome.status.error().message().find(release::kManifestPath), std::string::npos);
  EXPECT_TRUE(outcome.sink.calls.empty());

  ArtifactPieces envelopes = small_pieces();
  envelopes.manifest = envelopes.envelope + envelopes.manifest;
  expect_refused(read_small(envelopes).status, Code::entry_missing, release::kManifestPath,
                 release::kEnvelopePath);
}

TEST(Bad_artifact, with_another_manifest_than_was_signed_is_refused) {
  ArtifactPieces pieces = small_pieces();
  pieces.manifest = manifest_entry(R"({"schema":2})");
  const Outcome outcome = read_small(pieces);
  expect_refused(outcome.status, Code::manifest_digest, small_sample().manifest_digest().hex(),
                 base::sha256(R"({"schema":2})").hex());
  EXPECT_TRUE(outcome.sink.calls.empty());
}

TEST(Bad_artifact, with_a_manifest_past_its_bound_is_refused_before_it_is_read) {
  ArtifactPieces pieces = small_pieces();
  pieces.manifest = tar_block(
      file_fields(release::kManifestPath, release::kMaxManifestBytes + 1, 0644, kCreated));
  pieces.manifest += std::string(1 << 20, ' ');
  const Outcome outcome = read_small(pieces);
  expect_refused(outcome.status, Code::manifest_too_large, "67108864", "67108865");
  EXPECT_EQ(outcome.manifest, "");
}

TEST(Bad_artifact, with_odd_metadata_on_envelope_or_manifest_is_refused) {
  const std::string text = small_sample().manifest;
  ArtifactPieces mode = small_pieces();
  mode.manifest = tar_entry(file_fields(release::kManifestPath, text.size(), 0600, kCreated), text);
  expect_refused(read_small(mode).status, Code::header_unsupported, "0644", "0600");

  ArtifactPieces link = small_pieces();
  link.manifest = tar_entry(link_fields('2', release::kManifestPath, "bin/run", 0644, kCreated));
  expect_refused(read_small(link).status, Code::header_unsupported, "a file", "symlink");

  ArtifactPieces time = small_pieces();
  time.manifest = tar_entry(file_fields(release::kManifestPath, text.size(), 0644, 7), text);
  expect_refused(read_small(time).status, Code::header_unsupported, std::to_string(kCreated), "7");

  ArtifactPieces envelope = small_pieces();
  envelope.envelope = tar_entry(directory_fields(release::kEnvelopePath));
  expect_refused(read_small(envelope).status, Code::header_unsupported, "", "");

  ArtifactPieces empty = small_pieces();
  empty.envelope = envelope_entry("");
  expect_refused(read_small(empty).status, Code::envelope_invalid, "1 to 65536", "0");

  ArtifactPieces large = small_pieces();
  large.envelope = envelope_entry(std::string(release::kMaxEnvelopeBytes + 1, 'x'));
  expect_refused(read_small(large).status, Code::envelope_invalid, "65536", "65537");
}

// --- entries -------------------------------------------------------------------------------------

TEST(Bad_artifact, that_lacks_an_entry_is_refused) {
  for (std::size_t lost = 0; lost < 4; ++lost) {
    ArtifactPieces pieces = small_pieces();
    pieces.entries.erase(pieces.entries.begin() + static_cast<std::ptrdiff_t>(lost));
    const Sample good = small_sample();
    const std::string next = lost + 1 < 4 ? good.entries[lost + 1].path : "the end";
    const Outcome outcome = read_small(pieces);
    expect_refused(outcome.status, Code::entry_missing, good.entries[lost].path, next);
    EXPECT_FALSE(outcome.ended_too_early) << "the archive has its proper end";
  }
}

TEST(Bad_artifact, with_one_entry_more_is_refused) {
  for (std::size_t at = 0; at <= 4; ++at) {
    ArtifactPieces pieces = small_pieces();
    pieces.entries.insert(pieces.entries.begin() + static_cast<std::ptrdiff_t>(at),
                          tar_entry(file_fields("evil", 4, 0644, kCreated), "evil"));
    const Outcome outcome = read_small(pieces);
    expect_refused(outcome.status, Code::entry_extra, "manifest's entries", "");
    EXPECT_NE(outcome.status.error().message().find("'evil'"), std::string::npos);
    for (const std::string& call : outcome.sink.calls)
      EXPECT_EQ(call.find("evil"), std::string::npos);
  }
}

TEST(Bad_artifact, whose_entries_are_swapped_or_doubled_is_refused) {
  ArtifactPieces swapped = small_pieces();
  std::swap(swapped.entries[2], swapped.entries[3]);
  expect_refused(read_small(swapped).status, Code::entry_missing, "link", "readme");

  ArtifactPieces twice = small_pieces();
  twice.entries.insert(twice.entries.begin() + 2, twice.entries[1]);
  const Outcome outcome = read_small(twice);
  expect_refused(outcome.status, Code::entry_extra, "", "a second time");
  EXPECT_EQ(outcome.sink.calls, (std::vector<std::string>{"dir bin", "file bin/run", "end"}));
}

TEST(Bad_artifact, with_a_path_that_leaves_the_tree_is_refused) {
  for (const std::string path : {"../evil", "/etc/passwd", "bin/../../evil", "./readme", "bin//run",
                                 "bin/\x01", "bin/\xFF"}) {
    ArtifactPieces pieces = small_pieces();
    pieces.entries.insert(pieces.entries.begin() + 1,
                          tar_entry(file_fields(path, 0, 0644, kCreated)));
    const Outcome outcome = read_small(pieces);
    expect_refused(outcome.status, Code::path_unsafe, "", "");
    EXPECT_EQ(outcome.sink.calls, std::vector<std::string>{"dir bin"});
  }
}

struct Mismatch {
  const char* what;
  std::size_t at;
  std::string entry;
  const char* expected;
  const char* got;
};

TEST(Bad_artifact, whose_header_differs_from_the_manifest_is_refused) {
  const std::string run = small_sample().entries[1].content;
  const std::uint64_t size = run.size();
  const std::vector<Mismatch> table = {
      {"mode", 1, tar_entry(file_fields("bin/run", size, 0644, kCreated), run), "0755", "0644"},
      {"size", 1, tar_entry(file_fields("bin/run", size + 1, 0755, kCreated), run + "x"), "21",
       "22"},
      {"mtime", 1, tar_entry(file_fields("bin/run", size, 0755, 0), run), "1718730000", "0"},
      {"a link for a file", 1,
       tar_entry(link_fields('2', "bin/run", "/etc/passwd", 0755, kCreated)), "file", "symlink"},
      {"a hard link for a file", 1, tar_entry(link_fields('1', "bin/run", "x", 0755, kCreated)),
       "file", "hardlink"},
      {"a directory for a file", 1, tar_entry(directory_fields("bin/run/", 0755, kCreated)), "file",
       "directory"},
      {"a file for a directory", 0, tar_entry(file_fields("bin", 0, 0755, kCreated)), "directory",
       "file"},
      {"mode of a directory", 0, tar_entry(directory_fields("bin/", 0777, kCreated)), "0755",
       "0777"},
      {"link target", 2, tar_entry(link_fields('2', "link", "/etc/passwd", 0777, kCreated)),
       "bin/run", "/etc/passwd"},
      {"a hard link for a symlink", 2,
       tar_entry(link_fields('1', "link", "bin/run", 0777, kCreated)), "symlink", "hardlink"},
  };
  for (const Mismatch& bad : table) {
    SCOPED_TRACE(bad.what);
    ArtifactPieces pieces = small_pieces();
    pieces.entries[bad.at] = bad.entry;
    const Outcome outcome = read_small(pieces);
    expect_refused(outcome.status, Code::entry_mismatch, bad.expected, bad.got);
    const std::string path = small_sample().entries[bad.at].path;
    for (const std::string& call : outcome.sink.calls)
      EXPECT_FALSE(call.ends_with(" " + path)) << call;
  }
}

TEST(Bad_artifact, whose_file_has_other_bytes_is_refused_at_the_end_of_that_file) {
  ArtifactPieces pieces = small_pieces();
  SampleEntry entry = small_sample().entries[1];
  entry.content[3] = '?';
  pieces.entries[1] = tar_of(entry);
  const Outcome outcome = read_small(pieces);
  expect_refused(outcome.status, Code::entry_digest,
                 base::sha256(small_sample().entries[1].content).hex(),
                 base::sha256(entry.content).hex());
  EXPECT_EQ(outcome.sink.calls, (std::vector<std::string>{"dir bin", "file bin/run"}));
  EXPECT_FALSE(outcome.ended_too_early);
}

struct Trick {
  const char* what;
  std::string blocks;  // in the place of bin/run
  Code code;
  const char* got;
};

TEST(Bad_artifact, with_a_header_that_tar_programs_read_in_two_ways_is_refused) {
  const std::string run = small_sample().entries[1].content;
  const TarFields good = file_fields("bin/run", run.size(), 0755, kCreated);
  const auto with = [&](std::string TarFields::* field, std::string bytes) {
    TarFields fields = good;
    fields.*field = std::move(bytes);
    return tar_entry(fields, run);
  };
  const auto typed = [&](char typeflag) {
    TarFields fields = good;
    fields.typeflag = typeflag;
    return tar_entry(fields, run);
  };
  const auto after = [&](const std::string& records, char typeflag = 'x') {
    return pax_header(records, typeflag) + tar_entry(good, run);
  };
  TarFields long_name = file_fields("././@LongLink", 7);
  long_name.typeflag = 'L';
  TarFields wrong_sum = good;
  wrong_sum.checksum = octal_field(1, 7) + " ";
  const auto odd = Code::header_unsupported;
  const std::vector<Trick> table = {
      {"GNU long name", tar_entry(long_name, "bin/run") + tar_entry(good, run), odd,
       "GNU long name"},
      {"pax global", after(pax_record("path", "evil"), 'g'), odd, "pax global header"},
      {"pax xattr", after(pax_record("SCHILY.xattr.user.a", "b")), odd, "SCHILY.xattr.user.a"},
      {"pax capability", after(pax_record("LIBARCHIVE.xattr.security.capability", "AQ==")), odd,
       "LIBARCHIVE.xattr"},
      {"pax ACL", after(pax_record("SCHILY.acl.access", "user::rwx")), odd, "SCHILY.acl"},
      {"pax sparse", after(pax_record("GNU.sparse.major", "1")), odd, "GNU.sparse"},
      {"pax mode of another name", after(pax_record("path", "evil")), odd, "evil"},
      {"pax size again", after(pax_record("size", std::to_string(run.size()))), odd, "21"},
      {"pax charset", after(pax_record("hdrcharset", "BINARY")), odd, "hdrcharset"},
      {"base-256 size", with(&TarFields::size, base256_field(run.size(), 12)), odd, ""},
      {"negative octal", with(&TarFields::size, "-0000000025"), odd, "-0000000025"},
      {"base-256 mtime", with(&TarFields::mtime, base256_field(kCreated, 12)), odd, ""},
      {"character device", typed('3'), odd, "character device"},
      {"block device", typed('4'), odd, "block device"},
      {"fifo", typed('6'), odd, "fifo"},
      {"contiguous file", typed('7'), odd, "contiguous"},
      {"sparse file", typed('S'), odd, "sparse"},
      {"multi-volume", typed('M'), odd, "multi-volume"},
      {"old file", typed('\0'), odd, "older than POSIX"},
      {"unknown type", typed('Z'), odd, "unknown"},
      {"setuid", with(&TarFields::mode, octal_field(04755, 8)), Code::mode_unsafe, "4755"},
      {"owner", with(&TarFields::uid, octal_field(1000, 8)), odd, "1000"},
      {"group name", with(&TarFields::gname, "staff"), odd, "staff"},
      {"GNU magic", with(&TarFields::magic, "ustar "), odd, "ustar"},
      {"checksum", tar_entry(wrong_sum, run), Code::artifact_damaged, "1"},
      {"padding", tar_block(good) + to_blocks(run, 'x'), odd, "other bytes"},
  };
  for (const Trick& trick : table) {
    SCOPED_TRACE(trick.what);
    for (const Packing packing : {Packing::gzip, Packing::zstd}) {
      ArtifactPieces pieces = small_pieces();
      pieces.entries[1] = trick.blocks;
      const Outcome outcome = read_small(pieces, packing);
      expect_refused(outcome.status, trick.code, "", trick.got);
      ASSERT_FALSE(outcome.sink.calls.empty());
      EXPECT_EQ(outcome.sink.calls[0], "dir bin");
      for (const std::string& call : outcome.sink.calls)
        EXPECT_TRUE(call != "end" || std::string(trick.what) == "padding") << call;
    }
  }
}

TEST(Bad_artifact, that_claims_2_to_the_60_bytes_without_data_is_refused_at_once) {
  const std::string run = small_sample().entries[1].content;
  ArtifactPieces pieces = small_pieces();
  pieces.entries[1] = pax_header(pax_record("size", "1152921504606846976")) +
                      tar_entry(file_fields("bin/run", 0, 0755, kCreated));
  const Outcome outcome = read_small(pieces);
  expect_refused(outcome.status, Code::entry_mismatch, "21", "1152921504606846976");
  EXPECT_EQ(outcome.sink.calls, std::vector<std::string>{"dir bin"});
}

// The manifest may claim as much: then the archive ends too early.
TEST(Bad_artifact, whose_signed_size_is_far_larger_than_its_data_is_refused) {
  ArtifactPieces pieces = small_pieces();
  pieces.entries = {tar_block(file_fields("huge", 8'000'000'000, 0644, kCreated))};
  release::EntryTable table;
  ASSERT_TRUE(table.add({"huge", EntryType::file, 0644, 8'000'000'000, kCreated, {}, ""}));
  const Outcome outcome =
      read_artifact(pieces.build(Packing::gzip), table, small_sample().manifest_digest());
  expect_refused(outcome.status, Code::artifact_damaged, "", "bytes before the end of 'huge'");
}

TEST(Bad_artifact, with_ten_megabytes_of_zeros_behind_ten_declared_bytes_is_refused) {
  ArtifactPieces pieces = small_pieces();
  pieces.entries = {tar_block(file_fields("small", 10, 0644, kCreated)) +
                    std::string(10'000'000, '\0')};
  release::EntryTable table;
  ASSERT_TRUE(table.add(
      {"small", EntryType::file, 0644, 10, kCreated, base::sha256(std::string(10, '\0')), ""}));
  for (const Packing packing : {Packing::gzip, Packing::zstd}) {
    const Outcome outcome =
        read_artifact(pieces.build(packing), table, small_sample().manifest_digest());
    expect_refused(outcome.status, Code::artifact_damaged, "then nothing", "more");
  }
}

TEST(Bad_artifact, whose_archive_has_no_proper_end_is_refused) {
  for (const std::size_t zeros : {0UL, 512UL, 1536UL, 10'240UL}) {
    ArtifactPieces pieces = small_pieces();
    pieces.end = std::string(zeros, '\0');
    const Outcome outcome = read_small(pieces);
    expect_refused(outcome.status, Code::artifact_damaged, "two zero blocks", "");
  }
}

}  // namespace
}  // namespace updagent::testing
