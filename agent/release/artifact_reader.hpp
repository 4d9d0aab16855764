// Reads an artifact front to back, strictly: envelope, manifest, then exactly the entries that the
// manifest lists, in its order. Decompression (gzip or zstd, told by the magic) runs on a thread of
// its own. Writes nothing by itself: an EntrySink does.
// The profile is docs/artifact.md; every refusal is an exit 3 with expected and got.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "agent/base/byte_source.hpp"
#include "agent/base/digest.hpp"
#include "agent/base/error.hpp"
#include "agent/base/interrupt.hpp"
#include "agent/release/manifest.hpp"

namespace updagent::release {

inline constexpr std::size_t kMaxEnvelopeBytes = 64 * 1024;  // 16 signatures fit 40 times
// Compressed bytes after which an envelope must have shown itself: for a look at the head of a
// download. The envelope stands in a gzip member or zstd frame of its own.
inline constexpr std::size_t kHeadBytes = 128 * 1024;

// Receives the entries in order. A file's bytes come before they are known to be right: end_file()
// is called only when size and digest fit, otherwise read_entries() ends with an error.
class EntrySink {
 public:
  virtual ~EntrySink() = default;
  virtual base::Status directory(const EntryView& entry) = 0;
  virtual base::Status begin_file(const EntryView& entry) = 0;
  virtual base::Status file_bytes(std::span<const std::uint8_t> bytes) = 0;
  virtual base::Status end_file() = 0;
  virtual base::Status symlink(const EntryView& entry) = 0;
  virtual base::Status hardlink(const EntryView& entry) = 0;
};

struct ReadProgress {
  std::uint64_t entries = 0;           // done so far
  std::uint64_t bytes = 0;             // uncompressed file bytes done so far
  std::uint64_t compressed_bytes = 0;  // taken from the source so far
};

class ArtifactReader {
 public:
  // `source` and `interrupt` (may be null) outlive the reader. Nothing is read yet. The source is
  // read on another thread; a pipe that is silent keeps nobody waiting if the source has a
  // wait_fd().
  ArtifactReader(base::ByteSource& source, base::Interrupt* interrupt);
  ~ArtifactReader();  // stops the thread
  ArtifactReader(const ArtifactReader&) = delete;
  ArtifactReader& operator=(const ArtifactReader&) = delete;

  // In this order, each once.
  // Entry 1. Code::not_an_artifact for anything that does not begin with it (an ordinary tarball:
  // the hint names `updagent pack`).
  base::Result<std::string> read_envelope();
  // Entry 2, handed to `sink` in pieces; its SHA-256 must be `expected` (Code::manifest_digest).
  base::Status read_manifest(const base::Digest& expected,
                             const std::function<base::Status(std::string_view)>& sink);
  // All others, then the end of the archive and of the file: nothing may follow.
  base::Status read_entries(const EntryTable& table, EntrySink& sink,
                            const std::function<void(const ReadProgress&)>& on_progress);
  // After a refusal: nothing was wrong with the bytes but that they ended. Of a download whose
  // length nobody had announced it means that it may have been cut.
  bool ended_too_early() const;
  // SHA-256 of all compressed bytes; valid after read_entries() succeeded.
  base::Digest file_digest() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The envelope from the first bytes of an artifact: nothing if `head` is too short to tell.
base::Result<std::optional<std::string>> envelope_from_head(std::string_view head);

// File descriptor (a file, a pipe) as a source; not owned.
class FdSource : public base::ByteSource {
 public:
  FdSource(int fd, std::string name_for_errors) : fd_(fd), name_(std::move(name_for_errors)) {}
  base::Result<std::size_t> read(std::span<std::uint8_t> into) override;
  int wait_fd() const override { return fd_; }

 private:
  int fd_;
  std::string name_;
};

class MemorySource : public base::ByteSource {
 public:
  explicit MemorySource(std::string_view bytes) : left_(bytes) {}
  base::Result<std::size_t> read(std::span<std::uint8_t> into) override;

 private:
  std::string_view left_;
};

}  // namespace updagent::release
