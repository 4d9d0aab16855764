#include "agent/release/gate_reader.hpp"

#include <span>
#include <string>

#include "agent/release/rollout_words.hpp"

namespace updagent::release {
namespace {

using base::Error;
using base::Json;
using base::Milliseconds;
using base::Status;

constexpr Key kSpecProbe[] = {
    {"name", true}, {"type", true}, {"probe", true}, {"failures"}, {"max_failures"}};
constexpr Key kSpecScrape[] = {
    {"name", true},      {"type", true},   {"url", true},  {"requests"},
    {"errors"},          {"latency"},      {"numerator"},  {"denominator"},
    {"condition", true}, {"window"},       {"timeout"},    {"min_samples"},
    {"failures"},        {"max_failures"}, {"on_no_data"}, {"no_data_timeout"}};
constexpr Key kSpecPrometheus[] = {{"name", true},  {"type", true},      {"url", true},
                                   {"query", true}, {"condition", true}, {"window"},
                                   {"timeout"},     {"failures"},        {"max_failures"},
                                   {"on_no_data"},  {"no_data_timeout"}};
constexpr Key kSpecExec[] = {{"name", true}, {"type", true}, {"command", true}, {"interval"},
                             {"timeout"},    {"failures"},   {"max_failures"}};
constexpr Key kSpecKernel[] = {{"name", true},  {"type", true}, {"condition", true}, {"window"},
                               {"min_samples"}, {"failures"},   {"max_failures"}};

constexpr Key kManifestProbe[] = {
    {"failures", true}, {"max_failures"}, {"name", true}, {"probe", true}, {"type", true}};
constexpr Key kManifestScrape[] = {
    {"condition", true},  {"denominator"},      {"errors"},
    {"failures", true},   {"latency"},          {"max_failures"},
    {"min_samples"},      {"name", true},       {"no_data_timeout_ms"},
    {"numerator"},        {"on_no_data", true}, {"requests"},
    {"timeout_ms", true}, {"type", true},       {"url", true},
    {"window_ms", true}};
constexpr Key kManifestPrometheus[] = {
    {"condition", true},    {"failures", true},   {"max_failures"},   {"name", true},
    {"no_data_timeout_ms"}, {"on_no_data", true}, {"query", true},    {"timeout_ms", true},
    {"type", true},         {"url", true},        {"window_ms", true}};
constexpr Key kManifestExec[] = {{"command", true}, {"failures", true}, {"interval_ms", true},
                                 {"max_failures"},  {"name", true},     {"timeout_ms", true},
                                 {"type", true}};
constexpr Key kManifestKernel[] = {{"condition", true}, {"failures", true}, {"max_failures"},
                                   {"min_samples"},     {"name", true},     {"type", true},
                                   {"window_ms", true}};

std::span<const Key> spec_keys(GateType type) {
  switch (type) {
    case GateType::probe:
      return kSpecProbe;
    case GateType::scrape:
      return kSpecScrape;
    case GateType::prometheus:
      return kSpecPrometheus;
    case GateType::exec:
      return kSpecExec;
    case GateType::kernel:
      return kSpecKernel;
  }
  return {};
}

std::span<const Key> manifest_keys(GateType type) {
  switch (type) {
    case GateType::probe:
      return kManifestProbe;
    case GateType::scrape:
      return kManifestScrape;
    case GateType::prometheus:
      return kManifestPrometheus;
    case GateType::exec:
      return kManifestExec;
    case GateType::kernel:
      return kManifestKernel;
  }
  return {};
}

// What a gate that asks servers does when they have nothing to say.
bool may_lack_data(GateType type) {
  return type == GateType::scrape || type == GateType::prometheus;
}

// exec asks anew after each interval, as a probe; the others look at a window.
std::string_view window_key(GateType type) {
  return type == GateType::exec ? "interval" : "window";
}

// Leaves what is absent alone: the keys that fit the type were checked.
class GateReader {
 public:
  GateReader(const Fields& fields, const Dialect& dialect, Gate& into)
      : fields_(fields), dialect_(dialect), into_(into) {}

  Status texts() const {
    UPD_TRY(fields_.text("name", into_.name));
    UPD_TRY(fields_.text("probe", into_.probe));
    UPD_TRY(fields_.text("url", into_.url));
    UPD_TRY(fields_.text("requests", into_.requests));
    UPD_TRY(fields_.text("errors", into_.errors));
    UPD_TRY(fields_.text("latency", into_.latency));
    UPD_TRY(fields_.text("numerator", into_.numerator));
    UPD_TRY(fields_.text("denominator", into_.denominator));
    UPD_TRY(fields_.text("query", into_.query));
    UPD_TRY(fields_.text("condition", into_.condition));
    return fields_.texts("command", into_.command.argv);
  }

  Status figures() const {
    UPD_TRY(span(window_key(into_.type), into_.window));
    UPD_TRY(span("timeout", into_.timeout));
    into_.command.timeout = into_.timeout;
    UPD_TRY(fields_.integer("min_samples", into_.min_samples));
    into_.failures = default_failures(into_.type);
    UPD_TRY(fields_.integer("failures", into_.failures));
    return fields_.integer("max_failures", into_.max_failures);
  }

  Status without_data() const {
    UPD_TRY(fields_.word("on_no_data", parse_on_no_data, on_no_data_names(), into_.on_no_data));
    const std::string key = "no_data_timeout" + std::string(dialect_.duration_suffix);
    if (into_.on_no_data == OnNoData::fail && fields_.find(key) != nullptr)
      return Error(dialect_.code, fields_.place(key) + " is not valid")
          .expected("no such key with on_no_data = 'fail', which waits for nothing")
          .got("one");
    return span("no_data_timeout", into_.no_data_timeout);
  }

 private:
  Status span(std::string_view key, Milliseconds& into) const {
    return fields_.span(std::string(key) + std::string(dialect_.duration_suffix), dialect_, into);
  }

  const Fields& fields_;
  const Dialect& dialect_;
  Gate& into_;
};

void add_texts(const Gate& gate, Json& out) {
  for (const auto& [key, value] : {std::pair("probe", &gate.probe),
                                   {"url", &gate.url},
                                   {"requests", &gate.requests},
                                   {"errors", &gate.errors},
                                   {"latency", &gate.latency},
                                   {"numerator", &gate.numerator},
                                   {"denominator", &gate.denominator},
                                   {"query", &gate.query},
                                   {"condition", &gate.condition}})
    if (!value->empty()) out[key] = *value;
}

}  // namespace

Status read_gate(const Fields& fields, const Dialect& dialect, Gate& into) {
  if (fields.find("type") == nullptr)
    return Error(dialect.code, fields.place("type") + " is missing")
        .expected("one of exec, kernel, probe, prometheus, scrape")
        .got("none");
  UPD_TRY(fields.word("type", parse_gate_type, gate_type_names(), into.type));
  UPD_TRY(fields.allow(dialect.is_for_people ? spec_keys(into.type) : manifest_keys(into.type)));
  const GateReader reader(fields, dialect, into);
  UPD_TRY(reader.texts());
  UPD_TRY(reader.figures());
  return reader.without_data();
}

Json gate_to_json(const Gate& gate) {
  Json out = {
      {"name", gate.name}, {"type", gate_type_name(gate.type)}, {"failures", gate.failures}};
  add_texts(gate, out);
  if (gate.max_failures != 0) out["max_failures"] = gate.max_failures;
  if (gate.min_samples != 0) out["min_samples"] = gate.min_samples;
  if (gate.type == GateType::exec) out["command"] = gate.command.argv;
  if (gate.type != GateType::probe)
    out[std::string(window_key(gate.type)) + "_ms"] = gate.window.count();
  if (gate.type == GateType::exec || may_lack_data(gate.type))
    out["timeout_ms"] = gate.timeout.count();
  if (!may_lack_data(gate.type)) return out;
  out["on_no_data"] = on_no_data_name(gate.on_no_data);
  if (gate.on_no_data == OnNoData::pause) out["no_data_timeout_ms"] = gate.no_data_timeout.count();
  return out;
}

}  // namespace updagent::release
