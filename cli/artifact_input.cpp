#include "cli/artifact_input.hpp"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "agent/base/files.hpp"
#include "agent/fetch/fetch.hpp"

namespace updagent::cli {

using base::Code;
using base::Error;

constexpr base::Milliseconds kLookFor{60'000};  // without a byte: a person waits for the answer

base::Result<std::unique_ptr<ArtifactInput>> ArtifactInput::open(Session& session,
                                                                 const std::string& source) {
  std::unique_ptr<ArtifactInput> input(new ArtifactInput);
  if (fetch::is_url(source)) {
    const char* base_folder = ::getenv("TMPDIR");
    input->temporary_ =
        std::string(base_folder != nullptr ? base_folder : "/tmp") + "/updagent-XXXXXX";
    if (::mkdtemp(input->temporary_.data()) == nullptr)
      return base::system_error(errno, "cannot make a temporary folder");
    UPD_ASSIGN(const config::Settings settings, session.settings());
    fetch::Request request;
    request.url = source;
    request.download_directory = input->temporary_;
    request.limits.connect_timeout = settings.fetch.connect_timeout;
    request.limits.low_speed_time = settings.fetch.low_speed_time;
    request.limits.low_speed_bytes = settings.fetch.low_speed_bytes;
    request.limits.bytes_per_second = settings.fetch.bytes_per_second;
    request.limits.give_up_after = std::min(settings.fetch.give_up_after, kLookFor);
    request.limits.max_bytes = settings.fetch.max_artifact_bytes;
    request.credentials = {settings.fetch.ca_file, settings.fetch.client_certificate,
                           settings.fetch.client_key, settings.fetch.netrc,
                           settings.fetch.netrc_file};
    request.interrupt = session.interrupt();
    UPD_ASSIGN(fetch::Fetched fetched, fetch::fetch(request));
    input->file_ = std::move(fetched.file);
  } else if (source == "-") {
    input->file_ = base::UniqueFd(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3));
  } else {
    auto opened = base::open_path(source, O_RDONLY);
    if (!opened)
      return Error(Code::usage, opened.error().message())
          .hint("give a file, an http(s) or file URL, or - for standard input");
    input->file_ = std::move(*opened);
  }
  input->source_ = std::make_unique<release::FdSource>(
      input->file_.get(), fetch::is_url(source) ? fetch::redacted_url(source) : source);
  input->reader_ = std::make_unique<release::ArtifactReader>(*input->source_, session.interrupt());
  return input;
}

ArtifactInput::~ArtifactInput() {
  reader_.reset();
  if (temporary_.empty()) return;
  const auto slash = temporary_.find_last_of('/');
  const auto parent = base::open_directory(temporary_.substr(0, slash));
  if (parent) static_cast<void>(base::remove_tree(parent->get(), temporary_.substr(slash + 1)));
}

base::Result<release::Manifest> ArtifactInput::manifest(const base::Digest& digest) {
  const base::UniqueFd memory(::memfd_create("manifest", MFD_CLOEXEC));
  if (!memory) return base::system_error(errno, "cannot make a memory file");
  UPD_TRY(reader_->read_manifest(digest, [&](std::string_view piece) {
    return base::write_all(memory.get(), piece, "manifest");
  }));
  if (::lseek(memory.get(), 0, SEEK_SET) != 0) return base::system_error(errno, "cannot rewind");
  release::FdSource source(memory.get(), "manifest.json");
  return release::parse_manifest(source);
}

}  // namespace updagent::cli
