// What one flow of requests is to do. Its text form: "NAME key=value key=value ...".
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tests/handoff/load/address.hpp"

namespace load {

enum class Check { none, stream, text };

struct Spec {
  std::string name;
  Address target;
  std::vector<Address> sources;  // used in turn; empty: the kernel chooses
  std::string method = "GET";
  std::string path = "/";
  bool keepalive = false;
  std::int64_t per_connection = 0;  // requests, then it is closed; 0: no limit
  std::int64_t connections = 1;
  double rate = 0;             // requests a second; 0: closed loop
  std::int64_t think_ms = 0;   // closed loop: a pause after each answer
  std::int64_t ramp_ms = 0;    // closed loop: the connections begin spread over so long
  std::int64_t requests = 0;   // then it is done; 0: no limit
  std::int64_t read_rate = 0;  // bytes a second that are read of each response; 0: as they come
  std::int64_t timeout_ms = 5000;
  std::int64_t backoff_ms = 10;
  std::int64_t race_ms = 500;
  bool retry = true;
  std::int64_t status = 200;
  Check check = Check::none;
  std::string text;         // the whole body, for Check::text
  std::int64_t bytes = -1;  // length of the body; -1: any
  std::string generation_header = "X-Generation";
  std::vector<std::string> expect;  // generations that may answer; empty: any
};

// The text of the mistake, or nothing.
std::optional<std::string> parse_spec(std::string_view text, Spec& spec);
std::vector<std::string> split(std::string_view text, char separator);
std::optional<std::int64_t> parse_number(std::string_view text);

struct Key {
  std::string_view name;
  std::string_view help;
  bool (*apply)(Spec&, std::string_view value);
};
std::span<const Key> keys();

}  // namespace load
