// What the reader of manifest.json refuses as JSON and as a list of entries, each with its place.
#include <gtest/gtest.h>

#include <functional>
#include <utility>

#include "agent/release/manifest.hpp"
#include "support.hpp"

namespace updagent::release {
namespace {

using base::Code;
using testing::expect_error;
using testing::parse;
using testing::text_with;
using testing::text_with_entries;
using testing::TextSource;

constexpr std::string_view kDigest =
    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

std::string file_row(std::string_view path) {
  return R"({"mode":"0644","mtime":1,"path":")" + std::string(path) + R"(","sha256":")" +
         std::string(kDigest) + R"(","size":1,"type":"file"})";
}

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

// One valid row with `from` replaced by `to`.
std::string row(std::string_view from, std::string_view to) {
  return text_with_entries(replaced(file_row("f"), from, to));
}

void refused(const std::string& text, std::string_view line, Code code = Code::manifest_invalid) {
  expect_error(parse(text), code, line);
}

void refused_containing(const std::string& text, std::string_view part) {
  const auto result = parse(text);
  ASSERT_FALSE(result.has_value()) << "accepted, should say: " << part;
  EXPECT_EQ(result.error().code(), Code::manifest_invalid);
  EXPECT_NE(result.error().line().find(part), std::string::npos) << result.error().line();
}

TEST(ManifestParser, Order_of_keys_and_blanks_do_not_matter) {
  EXPECT_OK(parse(
      " {\n\t\"version\" : \"1.4.2\", \"strategy\":\"files\",\"schema\":1,\r\n\"entries\" : [ " +
      replaced(file_row("f"), R"("mode":"0644",)", "").insert(1, R"( "mode" : "0644" , )") +
      " ] ,\"created\":\"2024-06-18T17:00:00Z\",\"app\":\"shop\"} \n"));
  EXPECT_OK(parse(text_with_entries(R"({"type":"file","size":1,"sha256":")" + std::string(kDigest) +
                                    R"(","path":"\u0066","mtime":1,"mode":"0644"})")));
}

TEST(ManifestParser, Broken_json_names_line_and_column) {
  refused_containing("",
                     "manifest: not valid JSON (expected one JSON object, got line 1, column 1");
  refused_containing("{\n\"app\"}",
                     "got line 2, column 6: syntax error while parsing object separator");
  refused_containing(R"({"app":"shop",})", "not valid JSON");
  refused_containing(R"({"app":"shop" "b":1})", "not valid JSON");
  refused_containing("{/* c */}", "not valid JSON");
  refused_containing(R"({'app':1})", "not valid JSON");
  refused_containing(R"({"app":+1})", "not valid JSON");
  refused_containing(R"({"app":01})", "not valid JSON");
  refused_containing(R"({"app":NaN})", "not valid JSON");
  refused_containing("{\"app\":\"a\nb\"}", "not valid JSON");
  const std::string whole = text_with_entries(file_row("f"));
  for (std::size_t length = 0; length < whole.size(); ++length)
    refused_containing(whole.substr(0, length), "not valid JSON");
}

TEST(ManifestParser, Nothing_may_follow_the_object) {
  const std::string whole = text_with_entries("");
  EXPECT_OK(parse(whole + " \n\t\r"));
  for (const std::string& tail :
       {std::string("x"), std::string("{}"), std::string("]"), std::string(",")})
    refused_containing(whole + tail, "not valid JSON");
  refused(whole + '\0', "manifest: not valid JSON (expected text, got NUL at byte " +
                            std::to_string(whole.size()) + ")");
  refused(whole + '\0' + "x", "manifest: not valid JSON (expected text, got NUL at byte " +
                                  std::to_string(whole.size()) + ")");
}

TEST(ManifestParser, A_byte_order_mark_is_refused) {
  refused("\xEF\xBB\xBF" + text_with_entries(""),
          "manifest: not plain JSON (expected an object from the first byte on, got a byte order "
          "mark)");
  refused_containing("\xFE\xFF{}", "not valid JSON");
}

TEST(ManifestParser, Bytes_that_are_not_utf8_are_refused) {
  for (const std::string bad : {"\xFF", "\xC0\xAF", "\xED\xA0\x80", "\xF5\x80\x80\x80", "\xC3"})
    refused_containing(row("\"path\":\"f\"", "\"path\":\"f" + bad + "\""),
                       "invalid string: ill-formed UTF-8 byte");
  refused_containing(row("\"path\":\"f\"", R"("path":"\ud800")"), "surrogate");
}

TEST(ManifestParser, Anything_but_an_object_is_refused) {
  refused("[]", "manifest: not a manifest (expected an object, got an array)");
  refused("1", "manifest: not a manifest (expected an object, got an integer)");
  refused("\"x\"", "manifest: not a manifest (expected an object, got a string)");
  refused("null", "manifest: not a manifest (expected an object, got null)");
}

TEST(ManifestParser, Keys_that_stand_twice_are_refused_everywhere) {
  refused(text_with(R"("app":"shop")"),
          "manifest: a key stands twice (expected each key once, got 'app')");
  refused(text_with(R"("entries":[])"),
          "manifest: a key stands twice (expected each key once, got 'entries')");
  refused(text_with(R"("\u0061pp":"shop")"),
          "manifest: a key stands twice (expected each key once, got 'app')");
  refused(text_with(R"("requires":{"arch":"a","agent":"1.0.0","arch":"b"})"),
          "manifest: a key stands twice (expected each key once, got 'arch' in requires)");
  refused(text_with(R"("probes":[{"name":"a","name":"b"}])"),
          "manifest: a key stands twice (expected each key once, got 'name' in probes[0])");
  refused(row(R"("mtime":1)", R"("mtime":1,"mtime":1)"),
          "manifest: entries[0] has a key twice (expected each key once, got 'mtime')");
}

TEST(ManifestParser, Fractions_and_large_numbers_are_refused_everywhere) {
  refused(row(R"("mtime":1)", R"("mtime":1.0)"),
          "manifest: entries[0].mtime is not valid (expected an integer, got '1.0')");
  refused(row(R"("mtime":1)", R"("mtime":1e3)"),
          "manifest: entries[0].mtime is not valid (expected an integer, got '1e3')");
  refused(
      row(R"("size":1)", R"("size":9007199254740993)"),
      "manifest: entries[0].size is out of range (expected at most 2^53, got 9007199254740993)");
  refused(row(R"("size":1)", R"("size":18446744073709551616)"),
          "manifest: entries[0].size is out of range (expected at most 2^53, got "
          "18446744073709551616)");
  refused(
      row(R"("size":1)", R"("size":-9007199254740993)"),
      "manifest: entries[0].size is out of range (expected at least -2^53, got -9007199254740993)");
  refused(text_with(R"("retention":{"keep":3.5})"),
          "manifest: retention.keep is not valid (expected an integer, got '3.5')");
  refused(
      text_with(R"("rollout":{"watch_ms":9007199254740993})"),
      "manifest: rollout.watch_ms is out of range (expected at most 2^53, got 9007199254740993)");
  refused(text_with(R"("probes":[{"timeout_ms":0.1}])"),
          "manifest: probes[0].timeout_ms is not valid (expected an integer, got '0.1')");
  refused_containing(row(R"("size":1)", R"("size":1e999)"), "not valid JSON");
}

TEST(ManifestParser, Deep_nesting_is_refused_before_it_costs_anything) {
  refused(text_with(R"("hooks":)" + std::string(100'000, '[')),
          "manifest: hooks[0][0][0][0][0][0][0][0][0][0][0][0][0][0][0] is nested too deep "
          "(expected at most 16 levels, got more)");
  refused(text_with_entries(std::string(100'000, '[')),
          "manifest: entries[0] has the wrong type (expected an object, got an array)");
  refused(std::string(100'000, '['), "manifest: not a manifest (expected an object, got an array)");
}

TEST(ManifestParser, Unknown_and_missing_keys_of_an_entry_name_their_place) {
  refused(text_with_entries(file_row("a") + ',' +
                            replaced(file_row("b"), R"("size":1)", R"("size":1,"uid":0)")),
          "manifest: unknown key in entries[1] (expected one of mode, mtime, path, sha256, size, "
          "target, type, got 'uid')");
  for (const std::string key : {"mode", "mtime", "path", "sha256", "size"}) {
    std::string text = text_with_entries(file_row("f"));
    const std::size_t from = text.find('"' + key + "\":");
    text.erase(from, text.find(',', from) - from + 1);
    refused(text, "manifest: entries[0]." + key + (key == "path" ? "" : " of 'f'") +
                      " is not valid (expected a value, got none)");
  }
  refused(row(R"(,"type":"file")", ""),
          "manifest: entries[0].type of 'f' is not valid (expected a value, got none)");
  refused(text_with_entries("{}"),
          "manifest: entries[0].type is not valid (expected a value, got none)");
}

TEST(ManifestParser, Keys_of_another_type_of_entry_are_refused) {
  refused(
      row(R"("size":1)", R"("size":1,"target":"x")"),
      "manifest: entries[0].target of 'f' is not valid (expected none for a file, got a value)");
  refused(
      text_with_entries(R"({"mode":"0755","mtime":1,"path":"d","size":0,"type":"directory"})"),
      "manifest: entries[0].size of 'd' is not valid (expected none for a directory, got a value)");
  refused(text_with_entries(R"({"mode":"0777","mtime":1,"path":"l","type":"symlink"})"),
          "manifest: entries[0].target of 'l' is not valid (expected a value, got none)");
  refused(text_with_entries(file_row("f") + R"(,{"mode":"0644","mtime":1,"path":"h","sha256":")" +
                            std::string(kDigest) + R"(","target":"f","type":"hardlink"})"),
          "manifest: entries[1].sha256 of 'h' is not valid (expected none for a hardlink, got a "
          "value)");
}

TEST(ManifestParser, A_row_does_not_inherit_from_the_one_before) {
  refused(
      text_with_entries(file_row("a") + R"(,{"mode":"0644","mtime":1,"path":"b","type":"file"})"),
      "manifest: entries[1].sha256 of 'b' is not valid (expected a value, got none)");
}

TEST(ManifestParser, Values_of_the_wrong_type_name_their_place) {
  refused(row(R"("mode":"0644")", R"("mode":420)"),
          "manifest: entries[0].mode has the wrong type (expected a string, got an integer)");
  refused(row(R"("mtime":1)", R"("mtime":"1")"),
          "manifest: entries[0].mtime has the wrong type (expected an integer, got a string)");
  refused(row(R"("path":"f")", R"("path":null)"),
          "manifest: entries[0].path has the wrong type (expected a string, got null)");
  refused(row(R"("path":"f")", R"("path":["f"])"),
          "manifest: entries[0].path has the wrong type (expected a string, got an array)");
  refused(row(R"("path":"f")", R"("path":{"a":"f"})"),
          "manifest: entries[0].path has the wrong type (expected a string, got an object)");
  refused(row(R"("size":1)", R"("size":true)"),
          "manifest: entries[0].size has the wrong type (expected an integer, got a boolean)");
  for (const auto& [value, got] : {std::pair("1", "an integer"),
                                   {"\"f\"", "a string"},
                                   {"null", "null"},
                                   {"[]", "an array"},
                                   {"true", "a boolean"}})
    refused(text_with_entries(value),
            "manifest: entries[0] has the wrong type (expected an object, got " + std::string(got) +
                ")");
  for (const auto& [value, got] :
       {std::pair("{}", "an object"), {"\"x\"", "a string"}, {"null", "null"}, {"3", "an integer"}})
    refused(
        replaced(text_with_entries(""), "[]", value),
        "manifest: entries has the wrong type (expected an array, got " + std::string(got) + ")");
}

TEST(ManifestParser, Values_of_entries_that_can_not_be_read) {
  refused(row("0644", "0849"),
          "manifest: entries[0].mode of 'f' is not valid (expected four octal digits such as "
          "'0644', got '0849')");
  refused(row("0644", "644"),
          "manifest: entries[0].mode of 'f' is not valid (expected four octal digits such as "
          "'0644', got '644')");
  refused(row("0644", "00644"),
          "manifest: entries[0].mode of 'f' is not valid (expected four octal digits such as "
          "'0644', got '00644')");
  refused(row(R"("type":"file")", R"("type":"fifo")"),
          "manifest: entries[0].type of 'f' is not valid (expected 'file', 'directory', 'symlink' "
          "or 'hardlink', got 'fifo')");
  refused(row("9f86d0", "9F86D0"),
          "manifest: entries[0].sha256 of 'f' is not valid (expected 64 lower-case hex digits, got "
          "'9F86D0" +
              std::string(kDigest.substr(6)) + "')");
  refused(
      row("9f86d0", "9f86"),
      "manifest: entries[0].sha256 of 'f' is not valid (expected 64 lower-case hex digits, got '"
      "9f86" +
          std::string(kDigest.substr(6)) + "')");
  refused(row(R"("size":1)", R"("size":-1)"),
          "manifest: entries[0].size of 'f' is not valid (expected 0 or more, got -1)");
  refused(
      row(R"("mtime":1)", R"("mtime":-1)"),
      "manifest: entries[0]: the mtime of 'f' is out of range (expected 0 to 8589934591, got -1)");
}

TEST(ManifestParser, The_rules_of_the_table_name_the_row) {
  refused(row("\"f\"", R"("../f")"),
          "manifest: entries[0]: the path '../f' is not portable (expected no '.' and no '..', got "
          "'..')",
          Code::path_unsafe);
  refused(row("\"f\"", R"("a\u0000b")"),
          "manifest: entries[0]: the path 'a\\x00b' is not portable (expected UTF-8 without "
          "control bytes, got a control byte)",
          Code::path_unsafe);
  refused(row("0644", "4755"),
          "manifest: entries[0]: the mode of 'f' is not allowed (expected permission bits 0777 "
          "alone, got 4755)",
          Code::mode_unsafe);
  refused(text_with_entries(file_row("b") + ',' + file_row("a")),
          "manifest: entries[1]: the entries are not sorted (expected a path after 'b' in the "
          "order of bytes, got 'a')");
  refused(
      text_with_entries(file_row("b") + ',' + file_row("b")),
      "manifest: entries[1]: the path 'b' stands twice (expected each path once, got two entries)",
      Code::path_unsafe);
  refused(
      text_with_entries(R"({"mode":"0777","mtime":1,"path":"l","target":"../x","type":"symlink"})"),
      "manifest: entries[0]: the link 'l' is not safe (expected a target inside the release, got "
      "'../x')",
      Code::link_unsafe);
}

TEST(ManifestParser, The_rules_of_the_whole_table_are_checked) {
  refused(text_with_entries(file_row("A") + ',' + file_row("a")),
          "manifest: two paths differ only by case or Unicode normalisation form (expected paths "
          "that stay different on every file system, got 'A' and 'a')",
          Code::path_unsafe);
  refused(
      text_with_entries(
          R"({"mode":"0777","mtime":1,"path":"here","target":".","type":"symlink"},{"mode":"0777","mtime":1,"path":"out","target":"here/..","type":"symlink"})"),
      "manifest: the link 'out' is not safe (expected a target inside the release, other links "
      "followed, got 'here/..')",
      Code::link_unsafe);
}

TEST(ManifestParser, The_number_of_entries_is_bounded) {
  // each row is refused as soon as it comes, so these need not be right otherwise
  std::string rows;
  for (std::size_t i = 0; i < kMaxEntries; ++i)
    rows += R"({"mode":"0755","mtime":1,"path":"d)" + std::to_string(1'000'000 + i) +
            R"(","type":"directory"},)";
  refused(text_with_entries(rows + "{}"),
          "manifest: too many entries (expected at most 262144, got more)",
          Code::manifest_too_large);
}

// Calls `next` for more text whenever the last piece is used up.
class EndlessSource : public base::ByteSource {
 public:
  explicit EndlessSource(std::function<std::string()> next) : next_(std::move(next)) {}
  base::Result<std::size_t> read(std::span<std::uint8_t> into) override {
    if (at_ == piece_.size()) {
      piece_ = next_();
      at_ = 0;
    }
    const std::size_t count = std::min(into.size(), piece_.size() - at_);
    std::copy_n(piece_.begin() + static_cast<std::ptrdiff_t>(at_), count, into.begin());
    at_ += count;
    given_ += count;
    return count;
  }
  std::size_t given() const { return given_; }

 private:
  std::function<std::string()> next_;
  std::string piece_;
  std::size_t at_ = 0;
  std::size_t given_ = 0;
};

TEST(ManifestParser, The_size_of_the_text_is_bounded) {
  const std::string blanks(4'000, ' ');
  std::size_t rows = 0;
  EndlessSource source([&] {
    const std::string path = std::to_string(1'000'000 + rows);
    const std::string before = rows++ == 0 ? R"({"entries":[)" : ",";
    return before + blanks + R"({"mode":"0777","mtime":1,"path":")" + path +
           R"(","target":"x","type":"symlink"})";
  });
  expect_error(parse_manifest(source), Code::manifest_too_large,
               "manifest: the manifest is too large (expected at most 67108864 bytes, got more)");
  EXPECT_LE(source.given(), kMaxManifestBytes + 64 * 1024);
}

TEST(ManifestParser, A_token_without_end_stops_the_reader_early) {
  for (const std::string start :
       {R"({)", R"({"app)", R"({"app":"\)", R"({"app":1)", R"({"entries":[{"path":"a)"}) {
    bool first = true;
    EndlessSource source([&] {
      const char filler = start == "{" ? ' ' : start.back() == '\\' ? '\\' : '1';
      return std::exchange(first, false) ? start : std::string(4096, filler);
    });
    const auto result = parse_manifest(source);
    ASSERT_FALSE(result.has_value()) << start;
    EXPECT_EQ(result.error().code(), Code::manifest_too_large) << result.error().line();
    EXPECT_EQ(result.error().expected(), "at most 98306 bytes as written");
    EXPECT_LE(source.given(), 200'000U);
  }
}

TEST(ManifestParser, The_description_is_bounded_on_its_own) {
  std::string variables;
  for (int i = 100; i < 200; ++i)
    variables += "\"V" + std::to_string(i) + "\":\"" + std::string(kMaxStringBytes, 'x') + "\",";
  variables.back() = '}';
  const auto result = parse(text_with(R"("service":{"environment":{)" + variables + "}"));
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code(), Code::manifest_too_large);
  EXPECT_EQ(result.error().message(), "the manifest has too much beside its entries");
  EXPECT_EQ(result.error().expected(), "at most 1048576 bytes");
}

TEST(ManifestParser, A_longest_path_with_every_byte_escaped_is_read) {
  std::string escaped;
  for (int i = 0; i < 255; ++i) escaped += "\\u0061";
  const auto manifest = parse(row("\"f\"", '"' + escaped + '"'));
  ASSERT_TRUE(manifest.has_value()) << manifest.error().line();
  EXPECT_EQ(manifest->entries.at(0).path, std::string(255, 'a'));
}

// The rows stand between the keys of the description: both are read in one pass.
TEST(ManifestParser, The_description_alone_is_read_past_the_entries) {
  const std::string text = text_with(R"("requires":{"rollback_floor":"1.1.0"})");
  TextSource whole_source(text);
  const auto whole = parse_manifest(whole_source);
  TextSource source(text);
  const auto description = parse_description(source);
  ASSERT_TRUE(whole.has_value()) << whole.error().line();
  ASSERT_TRUE(description.has_value()) << description.error().line();
  EXPECT_EQ(description->app, whole->app);
  EXPECT_EQ(description->version.text(), whole->version.text());
  ASSERT_TRUE(description->needs.rollback_floor.has_value());
  EXPECT_EQ(description->needs.rollback_floor->text(), "1.1.0");
  EXPECT_EQ(description->entries.size(), 0U);
}

TEST(ManifestParser, Each_entry_is_shown_to_a_visitor_that_may_end_it_all) {
  const std::string text = row("\"f\"", "\"g\"");
  TextSource source(text);
  std::vector<std::string> paths;
  const auto description = parse_description(source, [&](const EntryView& entry) -> base::Status {
    paths.emplace_back(entry.path);
    return base::Error(Code::interrupted, "enough");
  });
  EXPECT_EQ(paths, (std::vector<std::string>{"g"}));
  expect_error(description, Code::interrupted, "manifest: entries[0]: enough");
  TextSource unsafe(row("\"f\"", "\"../g\""));
  const auto refused = parse_description(unsafe, [](const EntryView&) { return base::ok(); });
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code(), Code::path_unsafe);
}

TEST(ManifestParser, An_error_of_the_source_is_passed_on) {
  for (const std::string text : {"", "{", "{\"app\":\"sh"}) {
    TextSource source(text);
    source.fail_at_the_end(base::Error(Code::interrupted, "stopped"));
    expect_error(parse_manifest(source), Code::interrupted, "manifest: stopped");
  }
  // what was wrong before the source failed is said first
  TextSource source("[");
  source.fail_at_the_end(base::Error(Code::interrupted, "stopped"));
  expect_error(parse_manifest(source), Code::manifest_invalid,
               "manifest: not a manifest (expected an object, got an array)");
}

}  // namespace
}  // namespace updagent::release
