// The files of pack: what it reads, a spool that has no name, and the output that gets its name
// only when it is whole.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "agent/base/byte_source.hpp"
#include "agent/base/digest.hpp"
#include "agent/base/error.hpp"
#include "agent/base/unique_fd.hpp"

namespace updagent::release {

// A file that is read front to back.
class FileBytes final : public base::ByteSource {
 public:
  FileBytes(base::UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}
  base::Result<std::size_t> read(std::span<std::uint8_t> into) override;

 private:
  base::UniqueFd fd_;
  std::string path_;
};

// Bytes kept on disk under TMPDIR (or /tmp) while a file is packed. It has no name: no one else can
// open it and a kill leaves nothing behind.
class Spool {
 public:
  static base::Result<Spool> create();

  base::Status append(std::span<const std::uint8_t> bytes);
  std::uint64_t size() const { return size_; }

  // Reads [from, from + length) with a position of its own; the spool outlives it.
  class Part final : public base::ByteSource {
   public:
    Part(const Spool& spool, std::uint64_t from, std::uint64_t length)
        : fd_(spool.fd_.get()), at_(from), end_(from + length) {}
    base::Result<std::size_t> read(std::span<std::uint8_t> into) override;

   private:
    int fd_;
    std::uint64_t at_;
    std::uint64_t end_;
  };

 private:
  Spool(base::UniqueFd fd, std::string folder) : fd_(std::move(fd)), folder_(std::move(folder)) {}
  base::UniqueFd fd_;
  std::string folder_;
  std::uint64_t size_ = 0;
};

// A file that appears under its name complete and durable, or not at all. Until then it has no name
// where the file system allows that (a kill leaves nothing), a temporary one beside `path`
// elsewhere.
class OutputFile {
 public:
  static base::Result<OutputFile> create(const std::string& path);
  OutputFile(OutputFile&&) noexcept = default;
  OutputFile& operator=(OutputFile&&) noexcept = default;
  ~OutputFile();  // without commit() nothing stays

  base::Status write(std::span<const std::uint8_t> bytes);
  // fsync, rename, fsync of the directory. Returns the SHA-256 of what was written.
  base::Result<base::Digest> commit();
  std::uint64_t size() const { return size_; }

 private:
  OutputFile() = default;
  base::Status open();
  base::Status give_temporary_name();

  std::string path_;
  std::string name_;
  std::string temporary_;  // "" while the file has no name
  base::UniqueFd directory_;
  base::UniqueFd file_;  // empty after commit() and when moved from
  base::Sha256 digest_;
  std::uint64_t size_ = 0;
};

// The part of `path` before its last '/', "." without one.
std::string parent_folder(const std::string& path);

}  // namespace updagent::release
