#include "tests/handoff/load/spec.hpp"

#include <algorithm>
#include <array>
#include <charconv>

namespace load {
namespace {

using View = std::string_view;
// One process and one loop; more would measure this client and not the server.
constexpr std::int64_t kMaxConnections = 4000;

bool read(View text, std::int64_t& number) {
  const auto value = parse_number(text);
  if (value) number = *value;
  return value.has_value();
}

bool read(View text, bool& flag) {
  flag = text == "1";
  return text == "1" || text == "0";
}

bool read(View text, std::string& word) {
  word = text;
  return !text.empty();
}

bool read(View text, double& rate) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), rate);
  return error == std::errc() && end == text.data() + text.size() && rate >= 0;
}

template <auto Member>
bool set(Spec& spec, View value) {
  return read(value, spec.*Member);
}

bool set_connections(Spec& spec, View value) {
  return read(value, spec.connections) && spec.connections >= 1 &&
         spec.connections <= kMaxConnections;
}

bool set_target(Spec& spec, View value) {
  const auto target = parse_target(value);
  if (target) spec.target = *target;
  return target.has_value();
}

bool set_sources(Spec& spec, View value) {
  spec.sources = parse_sources(value);
  return !spec.sources.empty();
}

bool set_stream(Spec& spec, View value) {
  spec.check = Check::stream;
  return read(value, spec.bytes);
}

bool set_text(Spec& spec, View value) {
  spec.check = Check::text;
  spec.text.clear();
  for (std::size_t i = 0; i < value.size(); ++i) {
    unsigned char byte = 0;
    const char* digits = value.data() + i + 1;
    if (value[i] == '%' && i + 2 < value.size() &&
        std::from_chars(digits, digits + 2, byte, 16).ptr == digits + 2) {
      spec.text += static_cast<char>(byte);
      i += 2;
    } else {
      spec.text += value[i];
    }
  }
  return true;
}

bool set_expect(Spec& spec, View value) {
  spec.expect = split(value, ',');
  return true;
}

using S = Spec;
constexpr std::array kKeys = {
    Key{"target", "tcp:127.0.0.1:80, tcp:[::1]:80, unix:/path, unix:@abstract", set_target},
    Key{"sources", "127.0.0.2-127.0.0.9,127.0.1.1: connects from these in turn", set_sources},
    Key{"path", "of the request (/)", set<&S::path>},
    Key{"method", "of the request (GET)", set<&S::method>},
    Key{"keepalive", "1: connections are used again; 0: one for each request (0)",
        set<&S::keepalive>},
    Key{"per_connection", "requests on a connection, 0: no limit (0)", set<&S::per_connection>},
    Key{"connections", "at once (1)", set_connections},
    Key{"rate", "requests a second, begun on time whatever the answers do; 0: closed loop (0)",
        set<&S::rate>},
    Key{"think_ms", "closed loop: pause after an answer (0)", set<&S::think_ms>},
    Key{"ramp_ms", "closed loop: the connections begin spread over so long (0)", set<&S::ramp_ms>},
    Key{"requests", "the flow is done after so many, 0: no limit (0)", set<&S::requests>},
    Key{"read_rate", "bytes a second read of each response, 0: as they come (0)",
        set<&S::read_rate>},
    Key{"timeout_ms", "without any progress (5000)", set<&S::timeout_ms>},
    Key{"backoff_ms", "closed loop: pause after a failure (10)", set<&S::backoff_ms>},
    Key{"race_ms",
        "a reused connection that ends later than this after a request was in flight,"
        " not a race (500)",
        set<&S::race_ms>},
    Key{"retry", "1: a request that lost a race is sent again on a new connection (1)",
        set<&S::retry>},
    Key{"status", "of a good answer (200)", set<&S::status>},
    Key{"bytes", "length of a good body", set<&S::bytes>},
    Key{"stream", "the body is so many bytes of lines 000000000000000, 000000000000001, ...",
        set_stream},
    Key{"text", "the whole body, %0A for a newline", set_text},
    Key{"generation_header", "names who answered (X-Generation)", set<&S::generation_header>},
    Key{"expect", "generations that may answer: 2,3", set_expect},
};

}  // namespace

std::span<const Key> keys() {
  return kKeys;
}

std::optional<std::int64_t> parse_number(View text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

std::vector<std::string> split(View text, char separator) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const auto at = text.find(separator);
    if (at != 0) parts.emplace_back(text.substr(0, at));
    text.remove_prefix(at == View::npos ? text.size() : at + 1);
  }
  return parts;
}

std::optional<std::string> parse_spec(View text, Spec& spec) {
  const std::vector<std::string> words = split(text, ' ');
  if (words.empty()) return "a flow needs a name";
  spec.name = words.front();
  for (std::size_t i = 1; i < words.size(); ++i) {
    const auto equals = words[i].find('=');
    const std::string name = words[i].substr(0, equals);
    const auto* key = std::find_if(kKeys.begin(), kKeys.end(),
                                   [&](const Key& each) { return each.name == name; });
    if (key == kKeys.end() || equals == std::string::npos)
      return spec.name + ": unknown key '" + words[i] + "'";
    if (!key->apply(spec, View(words[i]).substr(equals + 1)))
      return spec.name + ": cannot use '" + words[i] + "'";
  }
  if (spec.target.length == 0) return spec.name + ": target=... is missing";
  return std::nullopt;
}

}  // namespace load
