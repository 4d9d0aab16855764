// An artifact from a file, a URL or standard input, opened for looking at it: nothing is installed.
#pragma once

#include <memory>
#include <string>

#include "agent/base/error.hpp"
#include "agent/base/unique_fd.hpp"
#include "agent/release/artifact_reader.hpp"
#include "agent/release/manifest.hpp"
#include "cli/session.hpp"

namespace updagent::cli {

class ArtifactInput {
 public:
  // A URL is fetched into a private temporary folder, which goes with this object.
  static base::Result<std::unique_ptr<ArtifactInput>> open(Session& session,
                                                           const std::string& source);
  ~ArtifactInput();
  ArtifactInput(const ArtifactInput&) = delete;
  ArtifactInput& operator=(const ArtifactInput&) = delete;

  release::ArtifactReader& reader() { return *reader_; }
  // Entry 2, checked against `digest`, parsed.
  base::Result<release::Manifest> manifest(const base::Digest& digest);

 private:
  ArtifactInput() = default;
  std::string temporary_;
  base::UniqueFd file_;
  std::unique_ptr<release::FdSource> source_;
  std::unique_ptr<release::ArtifactReader> reader_;
};

}  // namespace updagent::cli
