// One object of the manifest's `entries` after the other, from the events of a JSON reader straight
// into the table, or to whoever visits them.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "agent/base/error.hpp"
#include "agent/release/manifest.hpp"

namespace updagent::release {

class EntryRows {
 public:
  // `take` outlives the rows.
  explicit EntryRows(const EntryVisitor& take) : take_(take) {}

  bool row_is_open() const { return open_; }
  // "entries[17]", with ".mode" while that key's value is awaited.
  std::string place() const;

  base::Status begin_row();
  base::Status key(std::string_view name);
  // Takes the string's contents.
  base::Status text(std::string& value);
  base::Status number(std::int64_t value);
  base::Status end_row();
  // The refusal of any other value; `got` as in "an array".
  base::Error wrong_type(std::string_view got) const;

  // In the order of kRowKeys.
  enum Column : std::uint8_t { mode, mtime, path, sha256, size, target, type, kColumns };

 private:
  base::Error invalid(Column column, std::string expected, std::string got) const;
  base::Status check_columns(EntryType entry_type) const;
  base::Status read_type(EntryView& into) const;
  base::Status read_mode(EntryView& into) const;
  base::Status read_digest(EntryView& into) const;
  base::Result<EntryView> view() const;
  bool seen(Column column) const { return (seen_ & (1U << column)) != 0; }

  const EntryVisitor& take_;
  std::size_t count_ = 0;  // of the rows before this one
  bool open_ = false;
  std::uint8_t seen_ = 0;     // a bit for each column
  Column column_ = kColumns;  // whose value is awaited
  std::array<std::string, kColumns> texts_;
  std::array<std::int64_t, kColumns> numbers_{};
};

}  // namespace updagent::release
