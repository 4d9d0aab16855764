// Feeds the artifact reader with anything. What must hold: no crash, no hang, no memory without
// bound, and whatever reaches the sink is what the archive's own manifest says. What is accepted is
// put on disk by the store itself (UPDAGENT_FUZZ_FOLDER, a folder in memory): nothing may appear
// outside of its tree, and the tree must be what the manifest says.
//
// The first byte chooses: even, the rest is the artifact as a file; odd, the rest is the tar
// archive and is compressed here (checksums of gzip and zstd would stop nearly every mutation).
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "agent/base/digest.hpp"
#include "agent/release/artifact_reader.hpp"
#include "agent/release/manifest.hpp"
#include "agent/store/store.hpp"
#include "tests/support/tar_builder.hpp"

namespace updagent {
namespace {

using release::EntryView;

class CheckingSink : public release::EntrySink {
 public:
  base::Status directory(const EntryView& entry) override { return in_order(entry); }
  base::Status symlink(const EntryView& entry) override { return in_order(entry); }
  base::Status hardlink(const EntryView& entry) override { return in_order(entry); }
  base::Status begin_file(const EntryView& entry) override {
    size_ = entry.size;
    expected_ = entry.sha256;
    return in_order(entry);
  }
  base::Status file_bytes(std::span<const std::uint8_t> bytes) override {
    testing::must(bytes.size() <= size_);
    size_ -= bytes.size();
    hash_.update(bytes);
    return base::ok();
  }
  base::Status end_file() override {
    testing::must(size_ == 0 && hash_.finish() == expected_);
    return base::ok();
  }

 private:
  base::Status in_order(const EntryView& entry) {
    testing::must(last_ < entry.path);
    last_ = entry.path;
    return base::ok();
  }

  std::string last_;
  std::uint64_t size_ = 0;
  base::Digest expected_;
  base::Sha256 hash_;
};

// What a signature over the archive's own manifest would let through; "" if there is none.
std::string manifest_of(std::string_view artifact) {
  release::MemorySource source(artifact);
  release::ArtifactReader reader(source, nullptr);
  std::string manifest;
  if (!reader.read_envelope()) return manifest;
  const auto status = reader.read_manifest({}, [&](std::string_view piece) {
    manifest += piece;
    return base::ok();
  });
  testing::must(!status);  // no manifest has the digest of zeros
  return manifest;
}

// --- on disk ------------------------------------------------------------------------------------

constexpr const char* kApp = "fuzz";
// What a run may write: larger trees are the reader's business alone.
constexpr std::uint64_t kMaxTreeBytes = 1024 * 1024;
constexpr std::size_t kMaxTreeEntries = 256;

std::filesystem::path folder() {
  const char* given = std::getenv("UPDAGENT_FUZZ_FOLDER");
  return given != nullptr ? given : std::filesystem::temp_directory_path() / "updagent-fuzz";
}

// Beside the app's folder lies one file: what leaves the tree by a link or by "..", lands near it.
struct Node {
  Node() : app(folder() / "apps" / kApp) {
    std::filesystem::remove_all(folder());
    std::filesystem::create_directories(app.parent_path());
    std::ofstream(canary()) << "untouched";
  }
  std::filesystem::path canary() const { return folder() / "canary"; }
  void check() const {
    std::string content;
    std::ifstream(canary()) >> content;
    testing::must(content == "untouched");
    const auto names = [](const std::filesystem::path& path) {
      return std::distance(std::filesystem::directory_iterator(path),
                           std::filesystem::directory_iterator());
    };
    testing::must(names(folder()) == 2 && names(app.parent_path()) == 1);
  }
  std::filesystem::path app;
};

void put_on_disk(std::string_view artifact, const std::string& text) {
  static const Node kNode;
  auto store = store::AppStore::open(kNode.app.string(), kApp, true);
  testing::must(store.has_value());
  release::MemorySource source(artifact);
  release::ArtifactReader reader(source, nullptr);
  const auto envelope = reader.read_envelope();
  testing::must(envelope.has_value());
  store::StagingOptions options;
  options.throw_away = true;  // nothing is flushed, and the tree goes with the object
  auto staging = store::Staging::begin(*store, base::sha256(text), *envelope, options);
  testing::must(staging.has_value());
  testing::must(
      reader
          .read_manifest(base::sha256(text),
                         [&](std::string_view piece) { return (*staging)->manifest_bytes(piece); })
          .has_value());
  const auto manifest = (*staging)->parse_manifest();
  testing::must(manifest.has_value());
  const auto unpacked = reader.read_entries(manifest->entries, **staging, nullptr);
  testing::must(unpacked.has_value());
  testing::must((*staging)->finish(manifest->entries).has_value());
  const auto report = store::verify_tree((*staging)->path(), *manifest, nullptr);
  testing::must(report.has_value() && report->problems.empty());
  staging->reset();
  kNode.check();
}

void read(std::string_view artifact) {
  const std::string text = manifest_of(artifact);
  if (text.empty()) return;
  release::MemorySource text_source(text);
  const auto manifest = release::parse_manifest(text_source);
  if (!manifest) return;
  release::MemorySource source(artifact);
  release::ArtifactReader reader(source, nullptr);
  testing::must(reader.read_envelope().has_value());
  const auto again =
      reader.read_manifest(base::sha256(text), [](std::string_view) { return base::ok(); });
  if (!again) return;
  CheckingSink sink;
  if (!reader.read_entries(manifest->entries, sink, nullptr)) return;
  testing::must(reader.file_digest() == base::sha256(artifact));
  if (manifest->entries.size() <= kMaxTreeEntries &&
      manifest->entries.total_file_bytes() <= kMaxTreeBytes)
    put_on_disk(artifact, text);
}

// Stored, not deflated: the time belongs to the reader. The envelope is cut off as its header says.
std::string compress(std::string_view tar) {
  constexpr int kStored = 0;
  constexpr std::size_t kSizeAt = 124;
  constexpr std::size_t kSizeDigits = 11;
  std::size_t first = testing::kTarBlockBytes;
  if (tar.size() > first) {
    const std::string digits(tar.substr(kSizeAt, kSizeDigits));
    const std::uint64_t size = std::strtoull(digits.c_str(), nullptr, 8);
    if (size < tar.size())
      first += (static_cast<std::size_t>(size) + testing::kTarBlockBytes - 1) /
               testing::kTarBlockBytes * testing::kTarBlockBytes;
  }
  first = std::min(first, tar.size());
  return testing::gzip_member(tar.substr(0, first), kStored) +
         testing::gzip_member(tar.substr(first), kStored);
}

}  // namespace
}  // namespace updagent

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::string_view rest = input.substr(1);
  const auto envelope = updagent::release::envelope_from_head(rest);
  if (envelope && *envelope)
    updagent::testing::must((*envelope)->size() <= updagent::release::kMaxEnvelopeBytes);
  if (data[0] % 2 == 0)
    updagent::read(rest);
  else
    updagent::read(updagent::compress(rest));
  return 0;
}
