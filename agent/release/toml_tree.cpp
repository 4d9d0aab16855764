#include "agent/release/toml_tree.hpp"

#include <toml++/toml.h>

#include <exception>
#include <string>

#include "agent/release/fields.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Error;
using base::Json;
using base::Result;

Result<Json> convert(const toml::node& node, const std::string& place, int depth);

Result<Json> convert_table(const toml::table& table, const std::string& place, int depth) {
  Json out = Json::object();
  for (const auto& [key, value] : table) {
    UPD_ASSIGN(out[std::string(key.str())], convert(value, place_of(place, key.str()), depth));
  }
  return out;
}

Result<Json> convert_array(const toml::array& array, const std::string& place, int depth) {
  Json out = Json::array();
  for (const toml::node& value : array) {
    UPD_ASSIGN(Json item, convert(value, place_of(place, out.size()), depth));
    out.push_back(std::move(item));
  }
  return out;
}

std::string type_name(toml::node_type type) {
  switch (type) {
    case toml::node_type::floating_point:
      return "a fraction";
    case toml::node_type::date:
      return "a date";
    case toml::node_type::time:
      return "a time";
    case toml::node_type::date_time:
      return "a date and time";
    case toml::node_type::none:
    case toml::node_type::table:
    case toml::node_type::array:
    case toml::node_type::string:
    case toml::node_type::integer:
    case toml::node_type::boolean:
      break;
  }
  return "something else";
}

Result<Json> convert(const toml::node& node, const std::string& place, int depth) {
  if ((node.is_table() || node.is_array()) && depth >= base::kMaxJsonDepth)
    return Error(Code::usage, place + " is nested too deep")
        .expected("at most " + std::to_string(base::kMaxJsonDepth) + " levels")
        .got("more");
  if (const auto* table = node.as_table()) return convert_table(*table, place, depth + 1);
  if (const auto* array = node.as_array()) return convert_array(*array, place, depth + 1);
  if (const auto* text = node.as_string()) return Json(text->get());
  if (const auto* number = node.as_integer()) return Json(number->get());
  if (const auto* flag = node.as_boolean()) return Json(flag->get());
  return Error(Code::usage, place + " has the wrong type")
      .expected("a string, an integer, an array or a table")
      .got(type_name(node.type()));
}

}  // namespace

Result<Json> parse_toml_tree(std::string_view toml) {
  try {
    const toml::table table = toml::parse(toml);
    return convert_table(table, "", 1);
  } catch (const toml::parse_error& problem) {
    const toml::source_position& at = problem.source().begin;
    return Error(Code::usage, "not valid TOML")
        .expected("TOML 1.0")
        .got("line " + std::to_string(at.line) + ", column " + std::to_string(at.column) + ": " +
             std::string(problem.description()));
  } catch (const std::exception& problem) {
    return Error(Code::usage, "not valid TOML").expected("TOML 1.0").got(problem.what());
  }
}

}  // namespace updagent::release
