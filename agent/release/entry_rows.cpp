#include "agent/release/entry_rows.hpp"

#include "agent/base/text.hpp"
#include "agent/release/describe.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Error;
using base::ok;
using base::Status;

struct RowKey {
  std::string_view name;
  bool is_number;
};
constexpr std::array<RowKey, EntryRows::kColumns> kRowKeys = {{
    {"mode", false},
    {"mtime", true},
    {"path", false},
    {"sha256", false},
    {"size", true},
    {"target", false},
    {"type", false},
}};

constexpr unsigned bit(EntryRows::Column column) {
  return 1U << column;
}

constexpr unsigned kAlways =
    bit(EntryRows::mode) | bit(EntryRows::mtime) | bit(EntryRows::path) | bit(EntryRows::type);
// The columns of each type: exactly these. In the order of EntryType.
struct TypeColumns {
  EntryType type;
  unsigned columns;
};
constexpr std::array<TypeColumns, 4> kTypes = {{
    {EntryType::file, kAlways | bit(EntryRows::sha256) | bit(EntryRows::size)},
    {EntryType::directory, kAlways},
    {EntryType::symlink, kAlways | bit(EntryRows::target)},
    {EntryType::hardlink, kAlways | bit(EntryRows::target)},
}};

std::string key_names() {
  std::string out;
  for (const RowKey& key : kRowKeys) (out += out.empty() ? "" : ", ") += key.name;
  return out;
}

}  // namespace

std::string EntryRows::place() const {
  std::string out = "entries[" + std::to_string(count_) + ']';
  if (column_ != kColumns) (out += '.') += kRowKeys[column_].name;
  return out;
}

Error EntryRows::wrong_type(std::string_view got) const {
  const bool at_value = column_ != kColumns;
  return Error(Code::manifest_invalid, place() + " has the wrong type")
      .expected(!at_value                     ? "an object"
                : kRowKeys[column_].is_number ? "an integer"
                                              : "a string")
      .got(std::string(got));
}

Status EntryRows::begin_row() {
  if (open_) return wrong_type("an object");
  if (count_ >= kMaxEntries)
    return Error(Code::manifest_too_large, "too many entries")
        .expected("at most " + std::to_string(kMaxEntries))
        .got("more");
  open_ = true;
  seen_ = 0;
  return ok();
}

Status EntryRows::key(std::string_view name) {
  for (std::size_t i = 0; i < kRowKeys.size(); ++i) {
    if (kRowKeys[i].name != name) continue;
    const auto column = static_cast<Column>(i);
    if (seen(column))
      return Error(Code::manifest_invalid, place() + " has a key twice")
          .expected("each key once")
          .got(in_quotes(name));
    seen_ = static_cast<std::uint8_t>(seen_ | bit(column));
    column_ = column;
    return ok();
  }
  return Error(Code::manifest_invalid, "unknown key in " + place())
      .expected("one of " + key_names())
      .got(in_quotes(name));
}

Status EntryRows::text(std::string& value) {
  if (!open_ || kRowKeys[column_].is_number) return wrong_type("a string");
  texts_[column_].swap(value);  // both keep their memory for the next row
  column_ = kColumns;
  return ok();
}

Status EntryRows::number(std::int64_t value) {
  if (!open_ || !kRowKeys[column_].is_number) return wrong_type("an integer");
  numbers_[column_] = value;
  column_ = kColumns;
  return ok();
}

Status EntryRows::end_row() {
  const auto entry = view();
  if (!entry) return entry.error();
  if (auto taken = take_(*entry); !taken)
    return Error(std::move(taken).error()).with_context(place());
  ++count_;
  open_ = false;
  return ok();
}

Error EntryRows::invalid(Column column, std::string expected, std::string got) const {
  std::string what = place() + '.' + std::string(kRowKeys[column].name);
  if (seen(path) && column != path) what += " of " + in_quotes(texts_[path]);
  return Error(Code::manifest_invalid, what + " is not valid")
      .expected(std::move(expected))
      .got(std::move(got));
}

base::Result<EntryView> EntryRows::view() const {
  EntryView entry;
  UPD_TRY(read_type(entry));
  UPD_TRY(check_columns(entry.type));
  UPD_TRY(read_mode(entry));
  entry.path = texts_[path];
  entry.mtime = numbers_[mtime];
  if (entry.type == EntryType::symlink || entry.type == EntryType::hardlink)
    entry.link_target = texts_[target];
  if (entry.type != EntryType::file) return entry;
  UPD_TRY(read_digest(entry));
  if (numbers_[size] < 0) return invalid(size, "0 or more", std::to_string(numbers_[size]));
  entry.size = static_cast<std::uint64_t>(numbers_[size]);
  return entry;
}

Status EntryRows::read_type(EntryView& into) const {
  if (!seen(type)) return invalid(type, "a value", "none");
  for (const TypeColumns& known : kTypes) {
    if (entry_type_name(known.type) != texts_[type]) continue;
    into.type = known.type;
    return ok();
  }
  return invalid(type, "'file', 'directory', 'symlink' or 'hardlink'", in_quotes(texts_[type]));
}

Status EntryRows::check_columns(EntryType entry_type) const {
  const unsigned wanted = kTypes[static_cast<std::size_t>(entry_type)].columns;
  for (std::size_t i = 0; i < kRowKeys.size(); ++i) {
    const auto column = static_cast<Column>(i);
    const bool is_wanted = (wanted & bit(column)) != 0;
    if (is_wanted && !seen(column)) return invalid(column, "a value", "none");
    if (!is_wanted && seen(column))
      return invalid(column, "none for a " + std::string(entry_type_name(entry_type)), "a value");
  }
  return ok();
}

// Four octal digits as people write them; which bits are allowed is the table's business.
Status EntryRows::read_mode(EntryView& into) const {
  const std::string& text = texts_[mode];
  if (text.size() != 4 || text.find_first_not_of("01234567") != std::string::npos)
    return invalid(mode, "four octal digits such as '0644'", in_quotes(text));
  unsigned value = 0;
  for (const char digit : text) value = value * 8 + static_cast<unsigned>(digit - '0');
  into.mode = static_cast<std::uint16_t>(value);
  return ok();
}

Status EntryRows::read_digest(EntryView& into) const {
  const auto digest = base::Digest::from_hex(texts_[sha256]);
  if (!digest) return invalid(sha256, "64 lower-case hex digits", in_quotes(texts_[sha256]));
  into.sha256 = *digest;
  return ok();
}

}  // namespace updagent::release
