// libarchive as tar parser, nothing else of it: no filters, no other formats, no writing.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "agent/base/error.hpp"

struct archive;
struct archive_entry;

namespace updagent::release {

class TarParser {
 public:
  // Pieces of the uncompressed archive, valid until the next call; empty at its end.
  using Pull = std::function<base::Result<std::span<const std::uint8_t>>()>;

  explicit TarParser(Pull pull) : pull_(std::move(pull)) {}
  base::Status open();
  struct Next {
    archive_entry* entry = nullptr;      // valid until the next call; null at the archive's end
    std::optional<std::string> warning;  // what libarchive found odd in the entry's headers
  };
  base::Result<Next> next();
  // The next bytes of the entry; empty at its end. `offset`: how many came before.
  base::Result<std::span<const std::uint8_t>> data(std::uint64_t offset);

 private:
  struct Free {
    void operator()(archive* reader) const;
  };
  static ssize_t on_read(archive* reader, void* self, const void** bytes);
  base::Error failure(std::string_view what);

  Pull pull_;
  std::optional<base::Error> pull_error_;  // libarchive can't carry it through
  std::unique_ptr<archive, Free> reader_;
};

}  // namespace updagent::release
