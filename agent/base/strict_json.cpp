#include "agent/base/strict_json.hpp"

#include <set>
#include <string>
#include <vector>

namespace updagent::base {
namespace {

constexpr const char* kOneValue = "one JSON value and nothing else";
constexpr const char* kExactIntegers = "integers within 2^53";

// Builds a tree through nlohmann's SAX interface, which alone shows duplicate keys and the kind of
// every number.
class StrictBuilder : public nlohmann::json_sax<Json> {
 public:
  explicit StrictBuilder(JsonNumbers numbers) : numbers_(numbers) {}

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(std::int64_t value) override {
    if (value < -kMaxJsonInteger)
      return fail(kExactIntegers, "the number " + std::to_string(value) + " is below -2^53");
    return add(value);
  }
  bool number_unsigned(std::uint64_t value) override {
    if (value > static_cast<std::uint64_t>(kMaxJsonInteger))
      return fail(kExactIntegers, "the number " + std::to_string(value) + " is past 2^53");
    return add(static_cast<std::int64_t>(value));
  }
  bool number_float(double value, const std::string& text) override {
    if (numbers_ == JsonNumbers::any) return add(value);
    return fail(kExactIntegers, "the number " + text + " is not an integer");
  }
  bool string(std::string& value) override { return add(std::move(value)); }
  bool binary(Json::binary_t&) override { return fail(kOneValue, "binary data"); }
  bool start_object(std::size_t) override { return push(Json::object()); }
  bool start_array(std::size_t) override { return push(Json::array()); }
  bool end_object() override { return pop(); }
  bool end_array() override { return pop(); }
  bool key(std::string& name) override {
    if (open_.back().contains(name))
      return fail("each key once", "the key '" + name + "' stands twice");
    keys_.back() = name;
    return true;
  }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    return fail(kOneValue, "a syntax error at byte " + std::to_string(position));
  }

  Json take() { return std::move(root_); }
  Error problem(Code code, std::string what) const {
    return Error(code, std::move(what)).expected(expected_).got(problem_);
  }

 private:
  bool fail(std::string expected, std::string problem) {
    if (!problem_.empty()) return false;
    expected_ = std::move(expected);
    problem_ = std::move(problem);
    return false;
  }
  bool add(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (open_.back().is_array()) {
      open_.back().push_back(std::move(value));
    } else {
      open_.back()[keys_.back()] = std::move(value);
    }
    return true;
  }
  bool push(Json container) {
    if (open_.size() >= static_cast<std::size_t>(kMaxJsonDepth))
      return fail("at most " + std::to_string(kMaxJsonDepth) + " levels", "nested too deep");
    open_.push_back(std::move(container));
    keys_.emplace_back();
    return true;
  }
  bool pop() {
    Json done = std::move(open_.back());
    open_.pop_back();
    keys_.pop_back();
    return add(std::move(done));
  }

  JsonNumbers numbers_;
  Json root_;
  std::vector<Json> open_;
  std::vector<std::string> keys_;
  std::string expected_;
  std::string problem_;
};

}  // namespace

Result<Json> parse_strict_json(std::string_view text, Code code, std::string_view name,
                               JsonNumbers numbers) {
  if (text.starts_with("\xEF\xBB\xBF"))
    return Error(code, std::string(name) + " is not plain JSON")
        .expected(kOneValue)
        .got("a byte order mark at its start");
  // The library takes a NUL for the end and would not look at what follows it.
  if (const std::size_t nul = text.find('\0'); nul != std::string_view::npos)
    return Error(code, std::string(name) + " is not valid JSON")
        .expected(kOneValue)
        .got("a NUL byte at byte " + std::to_string(nul));
  StrictBuilder builder(numbers);
  bool parsed = false;
  try {
    parsed = Json::sax_parse(text, &builder);
  } catch (const std::exception& problem) {
    return Error(code, std::string(name) + " is not valid JSON")
        .expected(kOneValue)
        .got(problem.what());
  }
  if (!parsed) return builder.problem(code, std::string(name) + " is not valid JSON");
  return builder.take();
}

}  // namespace updagent::base
