// A good artifact in pieces with its table, and what a test needs to read it.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "agent/base/digest.hpp"
#include "agent/release/artifact_reader.hpp"
#include "tests/support/tar_builder.hpp"

namespace updagent::testing {

inline constexpr std::int64_t kCreated = 1'718'730'000;

// What is the same for the archive and for the table.
struct SampleEntry {
  std::string path;
  release::EntryType type = release::EntryType::file;
  std::uint16_t mode = 0644;
  std::string content;
  std::string target;
};

std::string tar_of(const SampleEntry& entry);
release::EntryTable table_of(const std::vector<SampleEntry>& entries);

struct Sample {
  std::string envelope = R"({"payload":"","signatures":[]})";
  std::string manifest = R"({"schema":1})";
  std::vector<SampleEntry> entries;

  ArtifactPieces pieces() const;
  release::EntryTable table() const { return table_of(entries); }
  base::Digest manifest_digest() const { return base::sha256(manifest); }
};

std::string envelope_entry(const std::string& envelope);
std::string manifest_entry(const std::string& manifest);
// Every type, and paths that need ustar's prefix or a pax record.
Sample sample();
// A directory, and two files after it: easy to tamper with.
Sample small_sample();
// Bytes that don't compress well, the same each time.
std::string noise(std::size_t count);

// Remembers calls as lines: "dir bin", "file bin/run", "12 bytes", "end".
class RecordingSink : public release::EntrySink {
 public:
  base::Status directory(const release::EntryView& entry) override { return add("dir ", entry); }
  base::Status begin_file(const release::EntryView& entry) override {
    contents.emplace_back();
    return add("file ", entry);
  }
  base::Status file_bytes(std::span<const std::uint8_t> bytes) override {
    contents.back().append(bytes.begin(), bytes.end());
    return base::ok();
  }
  base::Status end_file() override {
    calls.emplace_back("end");
    return base::ok();
  }
  base::Status symlink(const release::EntryView& entry) override { return add("symlink ", entry); }
  base::Status hardlink(const release::EntryView& entry) override {
    return add("hardlink ", entry);
  }

  std::vector<std::string> calls;
  std::vector<std::string> contents;

 private:
  base::Status add(const char* what, const release::EntryView& entry) {
    calls.push_back(what + std::string(entry.path));
    return base::ok();
  }
};

struct Outcome {
  base::Status status;
  std::string envelope;
  std::string manifest;
  RecordingSink sink;
  base::Digest file_digest;
  bool ended_too_early = false;
};

Outcome read_artifact(std::string_view bytes, const release::EntryTable& table,
                      const base::Digest& manifest_digest);
inline Outcome read_artifact(std::string_view bytes, const Sample& sample) {
  return read_artifact(bytes, sample.table(), sample.manifest_digest());
}

// The refusal has this code and says these things (in expected and got).
void expect_refused(const base::Status& status, base::Code code, std::string_view expected,
                    std::string_view got);

}  // namespace updagent::testing
