// One file of a release while its bytes come in.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "agent/base/error.hpp"
#include "agent/base/unique_fd.hpp"
#include "agent/release/manifest.hpp"

namespace updagent::store {

class FileWriter {
 public:
  // With `already` the bytes are in place (taken from a kept release): what comes is counted only.
  // `file` is invalid when nothing is left to be done to the file itself.
  base::Status open(const release::EntryView& entry, base::UniqueFd file, bool already);
  base::Status write(std::span<const std::uint8_t> bytes);
  // Sets mode and mtime. Hands back the descriptor, so that a write-back error can't be lost with
  // it before fsync; invalid if the file was only linked.
  base::Result<base::UniqueFd> close();

  bool is_open() const { return open_; }
  bool is_already_there() const { return already_; }
  std::uint64_t size() const { return size_; }

 private:
  base::Status reserve();
  void start_write_back();

  base::UniqueFd file_;
  std::string path_;
  std::uint64_t size_ = 0;
  std::uint64_t got_ = 0;
  std::uint64_t flushing_ = 0;  // bytes whose write-back was started
  std::int64_t mtime_ = 0;
  mode_t mode_ = 0;
  bool open_ = false;
  bool already_ = false;
};

}  // namespace updagent::store
