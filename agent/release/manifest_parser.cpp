// manifest.json as a stream: `entries` goes row by row into the compact table, the small rest into
// a bounded tree that manifest_json.cpp reads. Nothing here depends on the order of the keys.
#include <exception>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/strict_json.hpp"
#include "agent/release/byte_feed.hpp"
#include "agent/release/describe.hpp"
#include "agent/release/entry_rows.hpp"
#include "agent/release/entry_rules.hpp"
#include "agent/release/fields.hpp"
#include "agent/release/manifest.hpp"
#include "agent/release/manifest_json.hpp"
#include "agent/release/rules.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Error;
using base::Json;
using base::ok;
using base::Status;

constexpr std::string_view kEntriesKey = "entries";
constexpr std::size_t kMaxSyntaxText = 160;  // of the JSON library's message

Error invalid(std::string what, std::string expected, std::string got) {
  return Error(Code::manifest_invalid, std::move(what))
      .expected(std::move(expected))
      .got(std::move(got));
}

// The description as a tree.
class Tree {
 public:
  // Where the next value goes: "probes[0].name"; "" is the document itself.
  std::string place() const {
    std::string out;
    for (const Level& level : open_)
      out = level.value.is_array() ? place_of(out, level.value.size()) : place_of(out, level.key);
    return out;
  }
  bool is_empty() const { return open_.empty(); }
  // The next value is that of the key `name` of the outermost object.
  bool awaits(std::string_view name) const {
    return open_.size() == 1 && open_[0].value.is_object() && open_[0].key == name;
  }

  Status key(std::string& name) {
    Level& level = open_.back();
    if (level.value.contains(name) || (open_.size() == 1 && name == kEntriesKey && saw_entries_))
      return invalid("a key stands twice", "each key once", in_quotes(name) + in_parent());
    saw_entries_ = saw_entries_ || (open_.size() == 1 && name == kEntriesKey);
    level.key = name;
    return ok();
  }

  Status add(Json value) {
    if (open_.empty())
      return invalid("not a manifest", "an object", std::string(type_phrase(value)));
    Level& level = open_.back();
    if (level.value.is_array()) {
      level.value.push_back(std::move(value));
    } else {
      level.value[level.key] = std::move(value);
    }
    return ok();
  }

  Status open(Json container) {
    if (open_.size() >= static_cast<std::size_t>(base::kMaxJsonDepth))
      return invalid(place() + " is nested too deep",
                     "at most " + std::to_string(base::kMaxJsonDepth) + " levels", "more");
    if (open_.empty() && !container.is_object())
      return invalid("not a manifest", "an object", std::string(type_phrase(container)));
    open_.push_back({std::move(container), {}});
    return ok();
  }

  Status close() {
    Json done = std::move(open_.back().value);
    open_.pop_back();
    if (!open_.empty()) return add(std::move(done));
    root_ = std::move(done);
    return ok();
  }

  bool saw_entries() const { return saw_entries_; }
  const Json& root() const { return root_; }

 private:
  struct Level {
    Json value;
    std::string key;  // of an object: the last one
  };

  std::string in_parent() const {
    std::string parent;
    for (std::size_t i = 0; i + 1 < open_.size(); ++i)
      parent = open_[i].value.is_array() ? place_of(parent, open_[i].value.size())
                                         : place_of(parent, open_[i].key);
    return parent.empty() ? "" : " in " + parent;
  }

  std::vector<Level> open_;
  Json root_;
  bool saw_entries_ = false;
};

// Sends each event to the rows while the array `entries` is open, to the tree otherwise. The
// functions return false to stop, as the library asks; the error says why.
class ManifestEvents : public nlohmann::json_sax<Json> {
 public:
  ManifestEvents(const EntryVisitor& take, const ByteFeed& feed) : rows_(take), feed_(feed) {}

  bool null() override { return value(nullptr); }
  bool boolean(bool flag) override { return value(flag); }
  bool number_integer(std::int64_t number) override { return integer(number); }
  bool number_unsigned(std::uint64_t number) override {
    if (number > static_cast<std::uint64_t>(base::kMaxJsonInteger))
      return past_bound(std::to_string(number));
    return integer(static_cast<std::int64_t>(number));
  }
  bool number_float(double, const std::string& text) override {
    // An integer past 64 bits comes here too.
    if (text.find_first_of(".eE") == std::string::npos) return past_bound(text);
    return stop(invalid(place() + " is not valid", "an integer", in_quotes(text)));
  }
  bool string(std::string& text) override {
    if (in_rows_) return take(rows_.text(text));
    return value(std::move(text));
  }
  bool binary(Json::binary_t&) override { return stop(invalid(place(), "text", "binary data")); }
  bool start_object(std::size_t) override {
    if (in_rows_) return take(rows_.begin_row());
    return open(Json::object());
  }
  bool key(std::string& name) override {
    if (in_rows_) return take(rows_.key(name));
    return within_bound() && take(tree_.key(name));
  }
  bool end_object() override { return take(in_rows_ ? rows_.end_row() : tree_.close()); }
  bool start_array(std::size_t) override {
    if (in_rows_) return stop(rows_.wrong_type("an array"));
    if (!tree_.awaits(kEntriesKey)) return open(Json::array());
    in_rows_ = true;
    rows_from_ = feed_.position();
    return true;
  }
  // Only `entries` itself can end while it is open: no array is accepted inside.
  bool end_array() override {
    if (!in_rows_) return take(tree_.close());
    in_rows_ = false;
    rows_bytes_ = feed_.position() - rows_from_;
    return true;
  }
  bool parse_error(std::size_t, const std::string&,
                   const nlohmann::detail::exception& problem) override {
    return stop(syntax_error(problem.what()));
  }

  const std::optional<Error>& error() const { return error_; }
  bool is_syntax_error() const { return is_syntax_error_; }
  const Tree& tree() const { return tree_; }

 private:
  std::string place() const { return in_rows_ ? rows_.place() : tree_.place(); }

  bool stop(Error error) {
    error_ = std::move(error);
    return false;
  }
  bool take(Status status) { return status ? true : stop(std::move(status).error()); }

  bool past_bound(const std::string& number) {
    return stop(invalid(place() + " is out of range", "at most 2^53", number));
  }
  bool integer(std::int64_t number) {
    if (number < -base::kMaxJsonInteger)
      return stop(invalid(place() + " is out of range", "at least -2^53", std::to_string(number)));
    return in_rows_ ? take(rows_.number(number)) : value(number);
  }

  bool within_bound() {
    if (feed_.position() - rows_bytes_ <= kMaxDescriptionBytes) return true;
    return stop(Error(Code::manifest_too_large, "the manifest has too much beside its entries")
                    .expected("at most " + std::to_string(kMaxDescriptionBytes) + " bytes")
                    .got("more at " + place()));
  }
  bool value(Json value) {
    if (in_rows_) return stop(rows_.wrong_type(type_phrase(value)));
    if (!accepted(value)) return false;
    return take(tree_.add(std::move(value)));
  }
  bool open(Json container) {
    return accepted(container) && take(tree_.open(std::move(container)));
  }
  bool accepted(const Json& value) {
    if (tree_.awaits(kEntriesKey))
      return stop(
          invalid("entries has the wrong type", "an array", std::string(type_phrase(value))));
    return within_bound();
  }

  // "[json.exception...] parse error at line 1, column 5: syntax error while ...": from "line" on.
  Error syntax_error(std::string_view text) {
    is_syntax_error_ = true;
    const std::size_t from = text.find("line ");
    if (from != std::string_view::npos) text.remove_prefix(from);
    return invalid("not valid JSON", "one JSON object",
                   std::string(text.substr(0, kMaxSyntaxText)));
  }

  EntryRows rows_;
  Tree tree_;
  const ByteFeed& feed_;
  bool in_rows_ = false;
  bool is_syntax_error_ = false;
  std::uint64_t rows_from_ = 0;
  std::uint64_t rows_bytes_ = 0;
  std::optional<Error> error_;
};

// The description's tree; each entry goes to `take`.
base::Result<Json> read_json(base::ByteSource& source, const EntryVisitor& take) {
  ByteFeed feed(source);
  ManifestEvents events(take, feed);
  try {
    Json::sax_parse(ByteFeed::Iterator(feed), ByteFeed::Iterator(), &events);
  } catch (const std::exception& problem) {
    return invalid("not valid JSON", "one JSON object", problem.what());
  }
  // Where the feed stopped the reader saw an end that isn't one.
  if (feed.stopped() && (!events.error() || events.is_syntax_error())) return *feed.problem();
  if (events.error()) return *events.error();
  if (!events.tree().saw_entries()) return invalid("entries is missing", "an array", "none");
  return events.tree().root();
}

base::Result<Manifest> parse(base::ByteSource& source, const EntryVisitor& take) {
  UPD_ASSIGN(const Json root, read_json(source, take));
  return description_from_json(root);
}

base::Result<Manifest> parse_with_table(base::ByteSource& source) {
  EntryTable table;
  UPD_ASSIGN(Manifest manifest,
             parse(source, [&table](const EntryView& entry) { return table.add(entry); }));
  UPD_TRY(table.check_links());
  UPD_TRY(table.check_twins());
  manifest.entries = std::move(table);
  UPD_TRY(check_program(manifest, kManifestDialect));
  return manifest;
}

base::Result<Manifest> named(base::Result<Manifest> manifest) {
  if (manifest) return manifest;
  return Error(std::move(manifest).error()).with_context("manifest");
}

}  // namespace

base::Result<Manifest> parse_manifest(base::ByteSource& source) {
  return named(parse_with_table(source));
}

base::Result<Manifest> parse_description(base::ByteSource& source, const EntryVisitor& visit) {
  return named(parse(source, [&visit](const EntryView& entry) -> Status {
    if (!visit) return ok();
    UPD_TRY(check_path(entry.path));
    UPD_TRY(check_attributes(entry));
    return visit(entry);
  }));
}

}  // namespace updagent::release
