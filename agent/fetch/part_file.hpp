// The bytes of a download that are on disk, and which version of the remote file they are.
//
//   KEY.part   the bytes from the start of the file, without gaps; locked by flock(2) while in use
//   KEY.json   the validators of that version, the total length if known, and how many bytes have
//              reached the disk; bound to KEY.part by its inode number
//
// The promise: after kill -9 or a power cut, every byte that length() counts belongs to version().
// A version's state is durable before its first byte is written, and an older version's bytes are
// durably gone before that. In the boot that wrote them, all bytes of the file count (the kernel
// has them); after a reboot only those that were synced, whatever length the file system came back
// with.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "agent/base/error.hpp"
#include "agent/base/unique_fd.hpp"
#include "agent/fetch/response_head.hpp"

namespace updagent::fetch {

inline constexpr std::string_view kPartSuffix = ".part";
inline constexpr std::string_view kStateSuffix = ".json";

class PartFile {
 public:
  // Makes the directory and the file as needed, takes its lock and reads its state; bytes that
  // can't be trusted are dropped. When another process holds the lock, the download goes into an
  // unnamed file instead, that no one can resume: both get what they asked for.
  static base::Result<PartFile> open(const std::string& directory, const std::string& key);

  std::uint64_t length() const { return length_; }
  const Version& version() const { return version_; }
  // All bytes of the version are here.
  bool is_whole() const { return version_.total == length_; }
  // There is something that a later run can go on from.
  bool is_resumable() const { return named_ && length_ > 0 && version_.has_validator(); }

  // Drops every byte; what is appended next belongs to `version`.
  base::Status start_over(const Version& version);
  // Code::no_space with figures. What could be written is kept and counted.
  base::Status append(std::string_view bytes);
  // The server has said it only now, or the download ended without it being said.
  base::Status set_total(std::uint64_t total);
  // Syncs the bytes and notes how many. When they could not be written to the disk, those that were
  // not synced before are dropped.
  base::Status checkpoint();
  // Removes the file and its state.
  base::Status discard();

  base::Result<std::string> head(std::size_t bytes) const;
  // Code::no_space when the file system has less than `bytes` left.
  base::Status require_space(std::uint64_t bytes) const;
  // At position 0. The lock lives as long as the descriptor: no one changes the bytes under the
  // reader.
  base::Result<base::UniqueFd> hand_over() &&;

 private:
  PartFile(std::string directory, std::string key, base::UniqueFd file, bool named)
      : directory_(std::move(directory)),
        key_(std::move(key)),
        file_(std::move(file)),
        named_(named) {}

  std::string path(std::string_view suffix) const;
  std::string quoted_name() const;
  void load_state();
  bool read_state(std::uint64_t size);
  base::Status write_state();
  base::Status cut_to(std::uint64_t length);
  base::Error out_of_space(base::Error error, std::uint64_t wanted) const;

  std::string directory_;
  std::string key_;
  base::UniqueFd file_;
  bool named_ = false;
  Version version_;
  std::uint64_t length_ = 0;
  std::uint64_t synced_ = 0;
  std::int64_t checkpoint_us_ = 0;  // when the last one was
};

}  // namespace updagent::fetch
