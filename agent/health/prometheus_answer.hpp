// The HTTP API of a Prometheus server, as far as instant queries need it.
// https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "agent/base/clock.hpp"
#include "agent/base/error.hpp"

namespace updagent::health {

// One number is asked for: whoever answers more than this was not asked for one.
inline constexpr std::size_t kMaxAnswerBytes = 1UL << 20;

struct QueryWords {
  std::string app;
  std::string version;
  std::uint64_t generation = 0;
  base::Milliseconds window{0};
};
// $app, $version, $generation and $window ("10s") in PromQL; other words with a '$' stay.
std::string fill_query(std::string_view query, const QueryWords& words);

// The one value of a body with status 200. Code::not_found, with the reason, when there is none to
// judge: an empty vector, NaN, more than one series. Code::probe_failed when the body is no answer.
base::Result<double> value_of_answer(std::string_view body);
// "bad_data: parse error: unexpected end of input", of a body with any other status; "" when it
// says nothing.
std::string error_of_answer(std::string_view body);

}  // namespace updagent::health
