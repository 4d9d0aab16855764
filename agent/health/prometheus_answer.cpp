#include "agent/health/prometheus_answer.hpp"

#include <charconv>
#include <cmath>
#include <optional>

#include "agent/base/strict_json.hpp"
#include "agent/base/text.hpp"

namespace updagent::health {
namespace {

using base::Code;
using base::Error;
using base::Json;
using base::Result;

constexpr std::size_t kMaxErrorText = 300;  // of one line in a terminal and in the log
constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz";

Error no_answer(std::string what) {
  return {Code::probe_failed, "the server's answer is none of a Prometheus: " + std::move(what)};
}

std::optional<std::string> word_text(std::string_view word, const QueryWords& words) {
  if (word == "app") return words.app;
  if (word == "version") return words.version;
  if (word == "generation") return std::to_string(words.generation);
  if (word == "window") return base::format_duration(words.window);
  return std::nullopt;
}

// Null when there is no such key or it is of another kind.
const Json* member(const Json& object, const char* key, Json::value_t type) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found != object.end() && found->type() == type ? &*found : nullptr;
}

std::string text_of(const Json& object, const char* key) {
  const Json* text = member(object, key, Json::value_t::string);
  return text == nullptr ? "" : text->get<std::string>();
}

// [ <unix time>, "<value>" ]
Result<double> value_of(const Json* pair) {
  if (pair == nullptr || !pair->is_array() || pair->size() != 2 || !(*pair)[1].is_string())
    return no_answer("a value is a pair of time and text");
  auto text = (*pair)[1].get<std::string>();
  if (text.starts_with('+')) text.erase(0, 1);
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [stopped, problem] = std::from_chars(text.data(), end, value);
  if (problem != std::errc() || stopped != end)
    return no_answer("'" + base::printable(text.substr(0, kMaxErrorText)) + "' is no number");
  if (std::isnan(value)) return Error(Code::not_found, "the query's value is NaN");
  return value;
}

Result<double> value_of_vector(const Json& vector) {
  if (vector.empty()) return Error(Code::not_found, "the query has no series");
  if (vector.size() > 1)
    return Error(Code::not_found, "the query has " + std::to_string(vector.size()) +
                                      " series where one is needed: aggregate them, as with sum()");
  return value_of(member(vector.front(), "value", Json::value_t::array));
}

}  // namespace

std::string fill_query(std::string_view query, const QueryWords& words) {
  std::string filled;
  while (!query.empty()) {
    const std::size_t sign = std::min(query.find('$'), query.size());
    filled += query.substr(0, sign);
    query.remove_prefix(sign);
    if (query.empty()) break;
    const std::size_t end = std::min(query.find_first_not_of(kLetters, 1), query.size());
    const auto text = word_text(query.substr(1, end - 1), words);
    filled += text ? *text : query.substr(0, end);
    query.remove_prefix(end);
  }
  return filled;
}

Result<double> value_of_answer(std::string_view body) {
  UPD_ASSIGN(const Json answer,
             base::parse_strict_json(body, Code::probe_failed, "the server's answer",
                                     base::JsonNumbers::any));
  if (text_of(answer, "status") != "success") return no_answer("its status is not 'success'");
  const Json* data = member(answer, "data", Json::value_t::object);
  const Json* result = data ? member(*data, "result", Json::value_t::array) : nullptr;
  if (result == nullptr) return no_answer("it has no result");
  const std::string type = text_of(*data, "resultType");
  if (type == "scalar") return value_of(result);
  if (type == "vector") return value_of_vector(*result);
  return Error(Code::not_found,
               "the query's result is a " + base::printable(type.substr(0, kMaxErrorText)))
      .expected("a vector of one series, or a scalar");
}

std::string error_of_answer(std::string_view body) {
  const auto answer = base::parse_strict_json(body, Code::probe_failed, "the server's answer",
                                              base::JsonNumbers::any);
  if (!answer) return "";
  const std::string text = text_of(*answer, "errorType") + ": " + text_of(*answer, "error");
  if (text.size() <= 2) return "";
  return base::printable(base::to_valid_utf8(text.substr(0, kMaxErrorText)));
}

}  // namespace updagent::health
