#include "agent/release/artifact_reader.hpp"

#include <gtest/gtest.h>

#include "tests/unit/release_reader/sample.hpp"

namespace updagent::testing {
namespace {

using base::Code;
using release::ArtifactReader;
using release::MemorySource;

class Artifact : public ::testing::TestWithParam<Packing> {};

INSTANTIATE_TEST_SUITE_P(Of, Artifact, ::testing::Values(Packing::gzip, Packing::zstd),
                         [](const auto& test) {
                           return test.param == Packing::gzip ? "gzip" : "zstd";
                         });

TEST_P(Artifact, is_read_to_its_end_with_every_entry_in_order) {
  const Sample good = sample();
  const std::string bytes = good.pieces().build(GetParam());
  const Outcome outcome = read_artifact(bytes, good);
  ASSERT_TRUE(outcome.status) << outcome.status.error().line();
  EXPECT_EQ(outcome.envelope, good.envelope);
  EXPECT_EQ(outcome.manifest, good.manifest);
  EXPECT_EQ(outcome.file_digest, base::sha256(bytes));

  std::vector<std::string> calls;
  std::vector<std::string> contents;
  for (const SampleEntry& entry : good.entries) {
    const bool file = entry.type == release::EntryType::file;
    const char* what = file                                          ? "file "
                       : entry.type == release::EntryType::directory ? "dir "
                       : entry.type == release::EntryType::symlink   ? "symlink "
                                                                     : "hardlink ";
    calls.push_back(what + entry.path);
    if (file) calls.emplace_back("end");
    if (file) contents.push_back(entry.content);
  }
  EXPECT_EQ(outcome.sink.calls, calls);
  EXPECT_EQ(outcome.sink.contents, contents);
}

TEST_P(Artifact, may_have_members_that_end_anywhere_after_the_first) {
  const Sample good = sample();
  const ArtifactPieces pieces = good.pieces();
  const std::string rest = pieces.rest();
  std::string bytes = compressed_part(pieces.envelope, GetParam());
  for (std::size_t at = 0; at < rest.size(); at += 100'003)
    bytes += compressed_part(rest.substr(at, 100'003), GetParam());
  const Outcome outcome = read_artifact(bytes, good);
  EXPECT_TRUE(outcome.status) << outcome.status.error().line();
}

TEST_P(Artifact, with_no_entries_is_read) {
  const Sample empty;
  const Outcome outcome = read_artifact(empty.pieces().build(GetParam()), empty);
  EXPECT_TRUE(outcome.status) << outcome.status.error().line();
  EXPECT_TRUE(outcome.sink.calls.empty());
}

TEST_P(Artifact, with_an_envelope_and_a_manifest_that_fill_their_blocks_is_read) {
  Sample full = small_sample();
  full.envelope = std::string(release::kMaxEnvelopeBytes, 'e');
  full.manifest = noise(512 * 1200);
  const Outcome outcome = read_artifact(full.pieces().build(GetParam()), full);
  EXPECT_TRUE(outcome.status) << outcome.status.error().line();
  EXPECT_EQ(outcome.envelope, full.envelope);
  EXPECT_EQ(outcome.manifest, full.manifest);
}

TEST(Artifact_reader, counts_what_it_has_done) {
  const Sample good = sample();
  const std::string bytes = good.pieces().build(Packing::gzip);
  MemorySource source(bytes);
  ArtifactReader reader(source, nullptr);
  ASSERT_TRUE(reader.read_envelope());
  ASSERT_TRUE(reader.read_manifest(good.manifest_digest(), [](auto) { return base::ok(); }));
  RecordingSink sink;
  std::vector<release::ReadProgress> seen;
  ASSERT_TRUE(reader.read_entries(good.table(), sink,
                                  [&](const release::ReadProgress& now) { seen.push_back(now); }));
  ASSERT_GT(seen.size(), good.entries.size());
  EXPECT_EQ(seen.back().entries, good.entries.size());
  EXPECT_EQ(seen.back().bytes, good.table().total_file_bytes());
  EXPECT_EQ(seen.back().compressed_bytes, bytes.size());
  for (std::size_t i = 1; i < seen.size(); ++i) EXPECT_GE(seen[i].bytes, seen[i - 1].bytes);
}

TEST(Artifact_reader, passes_on_the_error_of_the_sink_and_stops_there) {
  class FullDisk : public RecordingSink {
    base::Status file_bytes(std::span<const std::uint8_t>) override {
      return base::Error(Code::no_space, "the disk is full");
    }
  };
  const Sample good = small_sample();
  const std::string bytes = good.pieces().build(Packing::gzip);
  MemorySource source(bytes);
  ArtifactReader reader(source, nullptr);
  ASSERT_TRUE(reader.read_envelope());
  ASSERT_TRUE(reader.read_manifest(good.manifest_digest(), [](auto) { return base::ok(); }));
  FullDisk sink;
  expect_refused(reader.read_entries(good.table(), sink, nullptr), Code::no_space, "", "");
  EXPECT_EQ(sink.calls, (std::vector<std::string>{"dir bin", "file bin/run"}));
}

TEST(Artifact_reader, refuses_to_be_used_out_of_order_or_after_a_failure) {
  const Sample good = small_sample();
  const std::string bytes = good.pieces().build(Packing::gzip);
  const auto ignore = [](std::string_view) { return base::ok(); };
  RecordingSink sink;

  MemorySource first(bytes);
  ArtifactReader early(first, nullptr);
  expect_refused(early.read_entries(good.table(), sink, nullptr), Code::internal, "", "");

  MemorySource second(bytes);
  ArtifactReader failed(second, nullptr);
  ASSERT_TRUE(failed.read_envelope());
  expect_refused(failed.read_manifest(base::sha256("another"), ignore), Code::manifest_digest,
                 base::sha256("another").hex(), good.manifest_digest().hex());
  expect_refused(failed.read_manifest(good.manifest_digest(), ignore), Code::internal, "", "");
  EXPECT_TRUE(sink.calls.empty());
}

}  // namespace
}  // namespace updagent::testing
