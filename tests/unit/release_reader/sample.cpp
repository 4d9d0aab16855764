#include "tests/unit/release_reader/sample.hpp"

namespace updagent::testing {
namespace {

using release::EntryType;
using release::EntryView;

const std::string kLongFolder = std::string(60, 'l');

char typeflag_of(EntryType type) {
  switch (type) {
    case EntryType::file:
      return '0';
    case EntryType::hardlink:
      return '1';
    case EntryType::symlink:
      return '2';
    case EntryType::directory:
      return '5';
  }
  return '?';
}

// The fields of ustar, and pax records where they are too small.
std::string place_path(std::string path, TarFields& fields) {
  if (path.size() <= 100) {
    fields.name = path;
    return "";
  }
  const std::size_t slash = path.find('/', path.size() - 101);
  if (slash != std::string::npos && slash > 0 && slash <= 155 && slash + 1 < path.size()) {
    fields.prefix = path.substr(0, slash);
    fields.name = path.substr(slash + 1);
    return "";
  }
  fields.name = path.substr(0, 100);
  return pax_record("path", path);
}

}  // namespace

std::string tar_of(const SampleEntry& entry) {
  TarFields fields = file_fields("", entry.content.size(), entry.mode, kCreated);
  fields.typeflag = typeflag_of(entry.type);
  fields.linkname = entry.target;
  std::string records;
  if (entry.target.size() > 100) records += pax_record("linkpath", entry.target);
  records += place_path(entry.path + (entry.type == EntryType::directory ? "/" : ""), fields);
  return (records.empty() ? "" : pax_header(records)) + tar_entry(fields, entry.content);
}

release::EntryTable table_of(const std::vector<SampleEntry>& entries) {
  release::EntryTable table;
  for (const SampleEntry& entry : entries) {
    const bool file = entry.type == EntryType::file;
    const auto added =
        table.add(EntryView{entry.path, entry.type, entry.mode, entry.content.size(), kCreated,
                            file ? base::sha256(entry.content) : base::Digest{}, entry.target});
    EXPECT_TRUE(added) << added.error().line();
  }
  return table;
}

std::string envelope_entry(const std::string& envelope) {
  return tar_entry(file_fields(release::kEnvelopePath, envelope.size(), 0644, kCreated), envelope);
}

std::string manifest_entry(const std::string& manifest) {
  return tar_entry(file_fields(release::kManifestPath, manifest.size(), 0644, kCreated), manifest);
}

ArtifactPieces Sample::pieces() const {
  ArtifactPieces pieces;
  pieces.envelope = envelope_entry(envelope);
  pieces.manifest = manifest_entry(manifest);
  for (const SampleEntry& entry : entries) pieces.entries.push_back(tar_of(entry));
  return pieces;
}

Sample sample() {
  const std::string deep = kLongFolder + "/" + kLongFolder;
  const std::string deeper = deep + "/" + kLongFolder + "/" + kLongFolder + "/" + kLongFolder;
  Sample out;
  out.entries = {
      {"bin", EntryType::directory, 0755, "", ""},
      {"bin/run", EntryType::file, 0755, "#!/bin/sh\necho hello\n", ""},
      {"bin/same", EntryType::hardlink, 0755, "", "bin/run"},
      {"current", EntryType::symlink, 0777, "", "bin/run"},
      {"data", EntryType::directory, 0755, "", ""},
      {"data/big", EntryType::file, 0644, noise(700'001), ""},
      {"data/empty", EntryType::file, 0600, "", ""},
      {"data/exact", EntryType::file, 0644, noise(1024), ""},
      {"far", EntryType::symlink, 0777, "", deep + "/target-that-is-not-there"},
      {kLongFolder, EntryType::directory, 0755, "", ""},
      {deep, EntryType::directory, 0755, "", ""},
      {deep + "/" + kLongFolder, EntryType::directory, 0755, "", ""},
      {deep + "/" + kLongFolder + "/" + kLongFolder, EntryType::directory, 0755, "", ""},
      {deeper, EntryType::directory, 0755, "", ""},
      // decomposed on purpose: libarchive would compose it
      {deeper + "/cafe\xCC\x81", EntryType::file, 0644, "pax path beyond ASCII\n", ""},
      {"z\xC3\xA9", EntryType::file, 0644, "ustar name beyond ASCII\n", ""},
  };
  return out;
}

Sample small_sample() {
  Sample out;
  out.entries = {
      {"bin", EntryType::directory, 0755, "", ""},
      {"bin/run", EntryType::file, 0755, "#!/bin/sh\necho hello\n", ""},
      {"link", EntryType::symlink, 0777, "", "bin/run"},
      {"readme", EntryType::file, 0644, "read me\n", ""},
  };
  return out;
}

std::string noise(std::size_t count) {
  std::string out(count, '\0');
  std::uint32_t state = 1;
  for (char& c : out) {
    state = state * 1'664'525U + 1'013'904'223U;  // Numerical Recipes' generator
    c = static_cast<char>(state >> 24);
  }
  return out;
}

Outcome read_artifact(std::string_view bytes, const release::EntryTable& table,
                      const base::Digest& manifest_digest) {
  Outcome out;
  release::MemorySource source(bytes);
  release::ArtifactReader reader(source, nullptr);
  auto envelope = reader.read_envelope();
  if (!envelope) {
    out.status = base::Status(std::move(envelope).error());
    out.ended_too_early = reader.ended_too_early();
    return out;
  }
  out.envelope = *envelope;
  out.status = reader.read_manifest(manifest_digest, [&](std::string_view piece) {
    out.manifest += piece;
    return base::ok();
  });
  if (out.status) out.status = reader.read_entries(table, out.sink, nullptr);
  if (out.status) out.file_digest = reader.file_digest();
  out.ended_too_early = reader.ended_too_early();
  return out;
}

void expect_refused(const base::Status& status, base::Code code, std::string_view expected,
                    std::string_view got) {
  ASSERT_FALSE(status) << "it was taken";
  const base::Error& error = status.error();
  EXPECT_EQ(error.code_name(), base::info(code).name) << error.line();
  EXPECT_NE(error.expected().find(expected), std::string::npos) << error.line();
  EXPECT_NE(error.got().find(got), std::string::npos) << error.line();
}

}  // namespace updagent::testing
