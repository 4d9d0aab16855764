// Makes artifacts. The output depends on the input alone: same tree, spec, updagent, compressor and
// Ed25519 key give the same file.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/digest.hpp"
#include "agent/base/error.hpp"
#include "agent/release/manifest.hpp"

namespace updagent::release {

enum class Compression { gzip, zstd };

struct PackRequest {
  std::string input;  // a directory, or a tarball (.tar .tgz .tar.gz .tar.zst)
  std::optional<std::string>
      spec_path;                   // --spec; otherwise updagent.toml in the input, otherwise none
  std::optional<std::string> app;  // --app and --version win over the spec
  std::optional<std::string> version;
  std::string output;         // FILE.tar.gz, .tgz or .tar.zst: the name tells the compression
  int compression_level = 0;  // 0: gzip 6, zstd 10
  // Takes the statement's payload and returns the envelope's JSON: keeps keys out of this folder.
  std::function<base::Result<std::string>(const std::string& app, const std::string& version,
                                          const base::Digest& manifest)>
      make_envelope;
  // The private key and the like: refused when they lie in the packed directory.
  std::vector<std::string> secrets = {};
  // May be empty. Bytes read: a directory's files are read twice, for the digest and for the
  // archive.
  std::function<void(std::uint64_t done_bytes, std::uint64_t total_bytes)> on_progress;
};

struct PackResult {
  std::string app;
  std::string version;
  base::Digest manifest_digest;
  base::Digest file_digest;
  std::uint64_t entries = 0;
  std::uint64_t content_bytes = 0;
  std::uint64_t file_bytes = 0;
  std::vector<std::string>
      notes;  // what was left out or changed and why ("stripped the common folder 'package'")
};

// A tarball whose entries all lie in one top folder (npm's package/, GitHub's NAME-REF/) loses that
// folder. What can't be in a release (devices, setuid, links out of the tree) is refused by name.
base::Result<PackResult> pack(const PackRequest& request);

// Writes `artifact` to `output` with another envelope; every byte after the first member or frame
// is copied as it is.
base::Status replace_envelope(const std::string& artifact, const std::string& envelope,
                              const std::string& output);

}  // namespace updagent::release
