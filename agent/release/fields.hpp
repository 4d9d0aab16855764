// Reads the fields of small JSON objects strictly: every key known, every type right, each refusal
// with its place. The manifest's sections and updagent.toml (turned into the same tree) are read
// with it, and what the supervisor is told; what the values may be is rules.hpp's business.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/clock.hpp"
#include "agent/base/error.hpp"
#include "agent/base/strict_json.hpp"
#include "agent/release/dialect.hpp"

namespace updagent::release {

struct Key {
  std::string_view name;
  bool required = false;
};

// "probes[0]" + "url" -> "probes[0].url"; at the top the key alone.
std::string place_of(std::string_view parent, std::string_view key);
std::string place_of(std::string_view parent, std::size_t index);
// "a string", "an array" ...
std::string_view type_phrase(const base::Json& value);

class Fields {
 public:
  // `object` is looked at, not kept: it outlives the reader. Code is that of every refusal.
  static base::Result<Fields> of(const base::Json& object, std::string place, base::Code code);

  // Every key is one of `keys`, all required ones are there.
  base::Status allow(std::span<const Key> keys) const;

  // Each leaves `into` alone when the key is absent.
  base::Status text(std::string_view key, std::string& into) const;
  base::Status integer(std::string_view key, std::int64_t& into) const;
  base::Status integer(std::string_view key, int& into) const;
  base::Status boolean(std::string_view key, bool& into) const;
  base::Status texts(std::string_view key, std::vector<std::string>& into) const;
  // A number of milliseconds, or a text as "30s", as the dialect has it.
  base::Status span(std::string_view key, const Dialect& dialect, base::Milliseconds& into) const;
  // An object of texts, sorted by name.
  base::Status variables(std::string_view key,
                         std::vector<std::pair<std::string, std::string>>& into) const;

  // Null when absent.
  const base::Json* find(std::string_view key) const;
  std::string place(std::string_view key) const { return place_of(place_, key); }
  const base::Json& object() const { return *object_; }
  base::Error wrong_type(std::string_view key, std::string expected) const;
  // One of `words`, as `parse` has it: an optional of the value.
  template <class Parse, class Value>
  base::Status word(std::string_view key, Parse parse, const std::vector<std::string>& words,
                    Value& into) const;
  base::Error not_one_of(const std::string& place, const std::vector<std::string>& words,
                         const std::string& got) const;
  // An array of objects, each read by `read(Fields)`; absent is fine.
  template <class Read>
  base::Status each(std::string_view key, std::size_t max_items, Read read) const;

 private:
  Fields(const base::Json& object, std::string place, base::Code code)
      : object_(&object), place_(std::move(place)), code_(code) {}
  base::Status check_array(std::string_view key, const base::Json& value,
                           std::size_t max_items) const;
  base::Error unknown_key(const std::string& key, std::span<const Key> keys) const;

  const base::Json* object_;
  std::string place_;
  base::Code code_;
};

template <class Read>
base::Status Fields::each(std::string_view key, std::size_t max_items, Read read) const {
  const base::Json* value = find(key);
  if (value == nullptr) return base::ok();
  UPD_TRY(check_array(key, *value, max_items));
  for (std::size_t i = 0; i < value->size(); ++i) {
    auto item = Fields::of((*value)[i], place_of(place(key), i), code_);
    if (!item) return std::move(item).error();
    UPD_TRY(read(*item));
  }
  return base::ok();
}

template <class Parse, class Value>
base::Status Fields::word(std::string_view key, Parse parse, const std::vector<std::string>& words,
                          Value& into) const {
  if (find(key) == nullptr) return base::ok();
  std::string text;
  UPD_TRY(this->text(key, text));
  const auto value = parse(text);
  if (!value) return not_one_of(place(key), words, text);
  into = *value;
  return base::ok();
}

}  // namespace updagent::release
