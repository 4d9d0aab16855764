#include "agent/release/fields.hpp"

#include <algorithm>
#include <limits>

#include "agent/base/text.hpp"
#include "agent/release/bounds.hpp"
#include "agent/release/describe.hpp"

namespace updagent::release {
namespace {

using base::Error;
using base::Json;
using base::ok;
using base::Status;

// A list longer than this is wrong whatever its rule says: argv is the longest one.
constexpr std::size_t kMaxListItems = kMaxCommandWords;
constexpr std::int64_t kLowest = std::numeric_limits<int>::min();
constexpr std::int64_t kHighest = std::numeric_limits<int>::max();

}  // namespace

std::string place_of(std::string_view parent, std::string_view key) {
  return parent.empty() ? std::string(key) : std::string(parent) + '.' + std::string(key);
}

std::string place_of(std::string_view parent, std::size_t index) {
  return std::string(parent) + '[' + std::to_string(index) + ']';
}

std::string_view type_phrase(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::object:
      return "an object";
    case Json::value_t::array:
      return "an array";
    case Json::value_t::string:
      return "a string";
    case Json::value_t::boolean:
      return "a boolean";
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned:
      return "an integer";
    case Json::value_t::number_float:
      return "a fraction";
    case Json::value_t::binary:
    case Json::value_t::discarded:
      break;
  }
  return "something else";
}

base::Result<Fields> Fields::of(const Json& object, std::string place, base::Code code) {
  if (object.is_object()) return Fields(object, std::move(place), code);
  return Error(code, place + " has the wrong type")
      .expected("an object")
      .got(std::string(type_phrase(object)));
}

const Json* Fields::find(std::string_view key) const {
  const auto found = object_->find(key);
  return found == object_->end() ? nullptr : &*found;
}

Error Fields::wrong_type(std::string_view key, std::string expected) const {
  return Error(code_, place(key) + " has the wrong type")
      .expected(std::move(expected))
      .got(std::string(type_phrase(*find(key))));
}

Error Fields::not_one_of(const std::string& place, const std::vector<std::string>& words,
                         const std::string& got) const {
  Error error = Error(code_, place + " is not valid")
                    .expected("one of " + base::join(words, ", "))
                    .got(in_quotes(got));
  const auto near = base::nearest(got, words);
  return near ? std::move(error).hint("did you mean '" + *near + "'?") : error;
}

Error Fields::unknown_key(const std::string& key, std::span<const Key> keys) const {
  std::vector<std::string> names;
  names.reserve(keys.size());
  for (const Key& known : keys) names.emplace_back(known.name);
  Error error = Error(code_, place_.empty() ? "unknown key" : "unknown key in " + place_)
                    .expected("one of " + base::join(names, ", "))
                    .got(in_quotes(key));
  if (const auto near = base::nearest(key, names))
    return std::move(error).hint("did you mean '" + *near + "'?");
  return error;
}

Status Fields::allow(std::span<const Key> keys) const {
  for (const auto& [name, value] : object_->items()) {
    const bool known = std::any_of(keys.begin(), keys.end(), [&, &wanted = name](const Key& key) {
      return key.name == wanted;
    });
    if (!known) return unknown_key(name, keys);
  }
  for (const Key& key : keys)
    if (key.required && find(key.name) == nullptr)
      return Error(code_, place(key.name) + " is missing").expected("a value").got("none");
  return ok();
}

Status Fields::text(std::string_view key, std::string& into) const {
  const Json* value = find(key);
  if (value == nullptr) return ok();
  if (!value->is_string()) return wrong_type(key, "a string");
  into = value->get_ref<const std::string&>();
  return ok();
}

Status Fields::integer(std::string_view key, std::int64_t& into) const {
  const Json* value = find(key);
  if (value == nullptr) return ok();
  if (!value->is_number_integer()) return wrong_type(key, "an integer");
  into = value->get<std::int64_t>();
  return ok();
}

Status Fields::integer(std::string_view key, int& into) const {
  std::int64_t wide = into;
  UPD_TRY(integer(key, wide));
  if (wide < kLowest || wide > kHighest)
    return Error(code_, place(key) + " is out of range")
        .expected("a small number")
        .got(std::to_string(wide));
  into = static_cast<int>(wide);
  return ok();
}

Status Fields::boolean(std::string_view key, bool& into) const {
  const Json* value = find(key);
  if (value == nullptr) return ok();
  if (!value->is_boolean()) return wrong_type(key, "true or false");
  into = value->get<bool>();
  return ok();
}

Status Fields::span(std::string_view key, const Dialect& dialect, base::Milliseconds& into) const {
  if (find(key) == nullptr) return ok();
  if (!dialect.is_for_people) {
    std::int64_t count = 0;
    UPD_TRY(integer(key, count));
    into = base::Milliseconds(count);
    return ok();
  }
  if (find(key)->is_number_integer())
    return wrong_type(key, "a duration in quotes, such as '30s'")
        .hint("write \"" + find(key)->dump() + "s\" if seconds are meant");
  std::string text;
  UPD_TRY(this->text(key, text));
  const auto span = base::parse_duration(text);
  if (!span)
    return Error(code_, place(key) + " is not a duration")
        .expected("one such as '30s', '500ms' or '1m30s'")
        .got(in_quotes(text));
  into = *span;
  return ok();
}

Status Fields::variables(std::string_view key,
                         std::vector<std::pair<std::string, std::string>>& into) const {
  const Json* value = find(key);
  if (value == nullptr) return ok();
  UPD_ASSIGN(const Fields table, of(*value, place(key), code_));
  for (const auto& [name, ignored] : value->items())  // sorted: a tree's keys are
    UPD_TRY(table.text(name, into.emplace_back(name, "").second));
  return ok();
}

Status Fields::texts(std::string_view key, std::vector<std::string>& into) const {
  const Json* value = find(key);
  if (value == nullptr) return ok();
  UPD_TRY(check_array(key, *value, kMaxListItems));
  std::vector<std::string> read;
  for (const Json& item : *value) {
    if (!item.is_string())
      return Error(code_, place_of(place(key), read.size()) + " has the wrong type")
          .expected("a string")
          .got(std::string(type_phrase(item)));
    read.push_back(item.get_ref<const std::string&>());
  }
  into = std::move(read);
  return ok();
}

Status Fields::check_array(std::string_view key, const Json& value, std::size_t max_items) const {
  if (!value.is_array()) return wrong_type(key, "an array");
  if (value.size() <= max_items) return ok();
  return Error(code_, place(key) + " is too long")
      .expected("at most " + std::to_string(max_items) + " items")
      .got(std::to_string(value.size()));
}

}  // namespace updagent::release
