#include "agent/store/file_writer.hpp"

#include <fcntl.h>

#include <cerrno>

#include "agent/base/failpoints.hpp"
#include "agent/base/files.hpp"
#include "agent/store/layout.hpp"
#include "agent/store/staged_tree.hpp"

namespace updagent::store {
namespace {

using base::Code;
using base::Error;
using base::Status;
using base::UniqueFd;

// From here on a full disk shows before the first byte, and the extents are contiguous. Smaller
// files gain nothing from the extra system call.
constexpr std::uint64_t kReserveFrom = 1024 * 1024;
// The disk works while we decompress the next piece; small enough that little is left at the end.
constexpr std::uint64_t kWriteBackStep = 8 * 1024 * 1024;

}  // namespace

Status FileWriter::open(const release::EntryView& entry, UniqueFd file, bool already) {
  if (open_) return Error(Code::internal, "a file was begun before '" + path_ + "' ended");
  file_ = std::move(file);
  path_ = entry.path;
  size_ = entry.size;
  got_ = 0;
  flushing_ = 0;
  mtime_ = entry.mtime;
  mode_ = installed_mode(entry.type, entry.mode);
  open_ = true;
  already_ = already;
  return already_ ? base::ok() : reserve();
}

Status FileWriter::reserve() {
  if (size_ < kReserveFrom) return base::ok();
  const int injected = base::failpoint::fail("sys.write");
  if (injected == 0 && ::fallocate(file_.get(), 0, 0, static_cast<off_t>(size_)) == 0)
    return base::ok();
  const int failed = injected != 0 ? injected : errno;
  // only a hint where the file system can't do it; never emulated by writing zeros
  if (failed == EOPNOTSUPP || failed == ENOSYS) return base::ok();
  return base::system_error(failed, cannot("reserve space for", path_));
}

Status FileWriter::write(std::span<const std::uint8_t> bytes) {
  if (!open_) return Error(Code::internal, "bytes came for no file");
  if (bytes.size() > size_ - got_)
    return Error(Code::entry_mismatch, "'" + path_ + "' has more bytes than its manifest says")
        .expected(std::to_string(size_) + " bytes")
        .got("more");
  if (!already_) UPD_TRY(base::write_all(file_.get(), bytes, path_));
  got_ += bytes.size();
  if (!already_ && got_ - flushing_ >= kWriteBackStep) start_write_back();
  return base::ok();
}

// A hint: what it can't start, the flush at the end will do.
void FileWriter::start_write_back() {
  ::sync_file_range(file_.get(), static_cast<off_t>(flushing_),
                    static_cast<off_t>(got_ - flushing_), SYNC_FILE_RANGE_WRITE);
  flushing_ = got_;
}

base::Result<UniqueFd> FileWriter::close() {
  if (!open_) return Error(Code::internal, "a file ended that was not begun");
  if (got_ != size_)
    return Error(Code::entry_mismatch, "'" + path_ + "' has fewer bytes than its manifest says")
        .expected(std::to_string(size_) + " bytes")
        .got(std::to_string(got_));
  if (file_) UPD_TRY(set_attributes(file_.get(), mode_, mtime_, path_));
  open_ = false;
  return std::move(file_);
}

}  // namespace updagent::store
