#include "agent/release/tar_parser.hpp"

#include <archive.h>
#include <archive_entry.h>

#include <cerrno>

namespace updagent::release {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::Status;

std::string reason(archive* reader) {
  const char* text = ::archive_error_string(reader);
  return text != nullptr ? text : "libarchive gives no reason";
}

}  // namespace

void TarParser::Free::operator()(archive* reader) const {
  ::archive_read_free(reader);
}

Status TarParser::open() {
  reader_.reset(::archive_read_new());
  if (!reader_) return Error(Code::internal, "libarchive can't start");
  if (::archive_read_support_format_tar(reader_.get()) != ARCHIVE_OK ||
      ::archive_read_open(reader_.get(), this, nullptr, &TarParser::on_read, nullptr) != ARCHIVE_OK)
    return failure("the archive can't be read");
  return base::ok();
}

ssize_t TarParser::on_read(archive* reader, void* self, const void** bytes) {
  auto& parser = *static_cast<TarParser*>(self);
  auto piece = parser.pull_();
  if (piece) {
    *bytes = piece->data();
    return static_cast<ssize_t>(piece->size());
  }
  parser.pull_error_ = std::move(piece).error();
  ::archive_set_error(reader, EIO, "the archive's bytes can't be had");
  return ARCHIVE_FATAL;
}

Error TarParser::failure(std::string_view what) {
  if (pull_error_) return *pull_error_;
  return Error(Code::header_unsupported, std::string(what))
      .got("libarchive: " + reason(reader_.get()));
}

Result<TarParser::Next> TarParser::next() {
  Next next;
  const int status = ::archive_read_next_header(reader_.get(), &next.entry);
  if (status == ARCHIVE_EOF) {
    if (pull_error_) return *pull_error_;
    return Next{};
  }
  if (status == ARCHIVE_WARN)
    next.warning = reason(reader_.get());
  else if (status != ARCHIVE_OK)
    return failure("a tar header can't be read");
  return next;
}

Result<std::span<const std::uint8_t>> TarParser::data(std::uint64_t offset) {
  const void* bytes = nullptr;
  std::size_t size = 0;
  la_int64_t at = 0;
  const int status = ::archive_read_data_block(reader_.get(), &bytes, &size, &at);
  if (status == ARCHIVE_EOF) return std::span<const std::uint8_t>();
  if (status != ARCHIVE_OK) return failure("an entry's data can't be read");
  if (at < 0 || static_cast<std::uint64_t>(at) != offset)
    return Error(Code::header_unsupported, "an entry's data with holes (a sparse file)");
  return std::span(static_cast<const std::uint8_t*>(bytes), size);
}

}  // namespace updagent::release
