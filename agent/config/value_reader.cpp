#include "agent/config/value_reader.hpp"

#include <algorithm>

#include "agent/base/text.hpp"
#include "agent/release/checks.hpp"
#include "agent/release/listen_address.hpp"
#include "agent/release/service_words.hpp"

namespace updagent::config {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::Status;

std::string expected_text(const Rule& rule) {
  const std::string type = type_text(rule);
  switch (rule.kind) {
    case Kind::duration:
      return type + ", as \"30s\" or \"1h30m\"";
    case Kind::size:
      return type + ", as 1048576 or \"64MiB\"";
    case Kind::outcomes:
      return "a list of " + base::join(known_outcomes(), ", ");
    case Kind::users:
      return "a list of user names or \"*\"; for root set allow.root = true";
    case Kind::user:
      return "a user's or group's name";
    case Kind::capabilities:
      return "a list of names as \"CAP_NET_BIND_SERVICE\"";
    case Kind::addresses:
      return "a list of patterns as \"tcp:*:80\", \"udp:127.0.0.1:*\", \"tcp:*:8000-8099\", "
             "\"unix:/run/shop/*\" or \"unix:@shop\"";
    case Kind::rlimits:
      return type + ", a size as \"64MiB\" or \"unlimited\"; nofile " +
             std::to_string(release::kLeastOpenFiles) + " to " +
             std::to_string(release::kMostOpenFiles);
    default:
      return type;
  }
}

// Values may be secrets in the environment table, so they are shown for scalars of other kinds
// only.
std::string got_text(const toml::node& node, Kind kind) {
  if (kind != Kind::environment) {
    if (const auto* text = node.as_string()) return "\"" + text->get() + "\"";
    if (const auto* number = node.as_integer()) return std::to_string(number->get());
    if (const auto* flag = node.as_boolean()) return flag->get() ? "true" : "false";
  }
  switch (node.type()) {
    case toml::node_type::string:
      return "a string";
    case toml::node_type::integer:
      return "an integer";
    case toml::node_type::boolean:
      return "true or false";
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "a list";
    case toml::node_type::floating_point:
      return "a number with a fraction";
    default:
      return "a date or time";
  }
}

bool has_control(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
}

// Names that NSS could know: nothing that would break a line of passwd(5).
bool is_account_name(std::string_view name) {
  constexpr std::size_t kMaxAccountName = 256;  // LOGIN_NAME_MAX
  return name.size() <= kMaxAccountName && name.find_first_of(" :/\t") == std::string_view::npos;
}

bool is_outcome(const std::string& text) {
  const auto known = known_outcomes();
  return std::find(known.begin(), known.end(), text) != known.end();
}

// "" always means "not set" for a single text, so that a later file can take an earlier value back.
bool is_text_of(Kind kind, const std::string& text, bool list_item) {
  if (text.size() > kMaxTextBytes || has_control(text)) return false;
  if (text.empty()) return !list_item;
  switch (kind) {
    case Kind::path:
    case Kind::paths:
      return text.front() == '/';
    case Kind::url:
      return text.starts_with("https://") || text.starts_with("http://");
    case Kind::user:
      return is_account_name(text);
    case Kind::users:
      return is_account_name(text) && text != "root";
    case Kind::groups:
      return is_account_name(text) && text != "*";
    case Kind::capabilities:
      return release::capability_number(text).has_value();
    case Kind::addresses:
      return release::parse_address_pattern(text).has_value();
    case Kind::outcomes:
      return is_outcome(text);
    default:
      return true;
  }
}

bool is_variable_name(std::string_view name) {
  return !name.empty() && (name.front() < '0' || name.front() > '9') &&
         name.find_first_not_of(
             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") ==
             std::string_view::npos;
}

class ValueReader {
 public:
  ValueReader(const std::string& file, const toml::node& node, const Rule& rule,
              const std::string& shown_path)
      : file_(file), node_(node), rule_(rule), shown_path_(shown_path) {}

  Status operator()(std::string* out) const {
    const auto* text = node_.as_string();
    if (text == nullptr || !is_text_of(rule_.kind, text->get(), false)) return wrong(node_);
    *out = text->get();
    return base::ok();
  }

  Status operator()(std::optional<std::string>* out) const {
    std::string text;
    UPD_TRY((*this)(&text));
    *out = text.empty() ? std::nullopt : std::optional(std::move(text));
    return base::ok();
  }

  Status operator()(bool* out) const {
    const auto* flag = node_.as_boolean();
    if (flag == nullptr) return wrong(node_);
    *out = flag->get();
    return base::ok();
  }

  Status operator()(std::uint64_t* out) const {
    std::optional<std::uint64_t> number;
    if (const auto* plain = node_.as_integer(); plain != nullptr && plain->get() >= 0)
      number = static_cast<std::uint64_t>(plain->get());
    if (const auto* text = node_.as_string(); text != nullptr && rule_.kind == Kind::size)
      number = base::parse_bytes(text->get());
    if (!number || !in_range(*number)) return wrong(node_);
    *out = *number;
    return base::ok();
  }

  Status operator()(int* out) const {
    std::uint64_t number = 0;  // every range of an integer key fits int
    UPD_TRY((*this)(&number));
    *out = static_cast<int>(number);
    return base::ok();
  }

  Status operator()(std::optional<int>* out) const {
    int number = 0;
    UPD_TRY((*this)(&number));
    *out = number;
    return base::ok();
  }

  Status operator()(base::Milliseconds* out) const {
    const auto* text = node_.as_string();
    const auto span = text == nullptr ? std::nullopt : base::parse_duration(text->get());
    if (!span || !in_range(static_cast<std::uint64_t>(span->count()))) return wrong(node_);
    *out = *span;
    return base::ok();
  }

  Status operator()(std::vector<std::string>* out) const {
    const auto* list = node_.as_array();
    if (list == nullptr || list->size() > kMaxListItems) return wrong(node_);
    std::vector<std::string> words;
    for (const toml::node& item : *list) {
      const auto* text = item.as_string();
      // an argument of a command may be empty or have any bytes but NUL
      const bool fits = text != nullptr &&
                        (rule_.kind == Kind::command ? is_argument(text->get())
                                                     : is_text_of(rule_.kind, text->get(), true));
      if (!fits) return wrong(item);
      words.push_back(text->get());
    }
    if (rule_.kind == Kind::command && !words.empty() && words.front().empty()) return wrong(node_);
    *out = std::move(words);
    return base::ok();
  }

  // Merges name by name, as every table does.
  Status operator()(std::map<std::string, std::string>* out) const {
    const bool is_environment = rule_.kind == Kind::environment;
    const auto* table = node_.as_table();
    if (table == nullptr || table->size() > kMaxListItems) return wrong(node_);
    for (const auto& [name, value] : *table) {
      UPD_TRY(is_environment ? check_variable(name) : check_listener(name));
      const auto* text = value.as_string();
      if (text == nullptr || !is_argument(text->get())) return wrong(value);
      if (!is_environment && text->get().empty()) {  // taken back
        out->erase(std::string(name.str()));
        continue;
      }
      if (!is_environment) UPD_TRY(check_address(value, text->get()));
      (*out)[std::string(name.str())] = text->get();
    }
    return base::ok();
  }

  Status operator()(std::map<std::string, std::uint64_t>* out) const {
    const auto* table = node_.as_table();
    if (table == nullptr) return wrong(node_);
    for (const auto& [name, value] : *table) {
      if (!release::rlimit_resource(name.str()))
        return wrong_name(name, "a resource limit",
                          "one of " + base::join(release::rlimit_names(), ", "));
      const auto limit = limit_of(value);
      if (!limit || !release::is_rlimit(name.str(), *limit)) return wrong(value);
      (*out)[std::string(name.str())] = *limit;
    }
    return base::ok();
  }

 private:
  static bool is_argument(const std::string& text) {
    return text.size() <= kMaxTextBytes && text.find('\0') == std::string::npos;
  }
  static std::optional<std::uint64_t> limit_of(const toml::node& value) {
    if (const auto* number = value.as_integer(); number != nullptr && number->get() >= 0)
      return static_cast<std::uint64_t>(number->get());
    const auto* text = value.as_string();
    if (text == nullptr) return std::nullopt;
    if (text->get() == "unlimited") return release::kUnlimited;
    return base::parse_bytes(text->get());
  }

  Error wrong_name(const toml::key& name, const std::string& what, std::string expected) const {
    return Error(Code::config_invalid, place(file_, name.source()) + "'" + std::string(name.str()) +
                                           "' is no name for " + what)
        .expected(std::move(expected))
        .got("'" + std::string(name.str()) + "'");
  }
  Status check_variable(const toml::key& name) const {
    if (is_variable_name(name.str())) return base::ok();
    return wrong_name(name, "a variable", "letters, digits and '_', no digit in front");
  }
  Status check_listener(const toml::key& name) const {
    if (release::is_plain_name(name.str())) return base::ok();
    return wrong_name(name, "a listener", "letters, digits, '.', '_' and '-'");
  }
  Status check_address(const toml::node& value, const std::string& text) const {
    const auto address = release::parse_listen_address(
        text, place(file_, value.source()) + "'" + shown_path_ + "'", Code::config_invalid);
    if (!address) return address.error();
    return base::ok();
  }
  bool in_range(std::uint64_t value) const { return value >= rule_.low && value <= rule_.high; }
  Error wrong(const toml::node& node) const {
    return Error(Code::config_invalid,
                 place(file_, node.source()) + "'" + shown_path_ + "' has a wrong value")
        .expected(expected_text(rule_))
        .got(got_text(node, rule_.kind));
  }

  const std::string& file_;
  const toml::node& node_;
  const Rule& rule_;
  const std::string& shown_path_;
};

}  // namespace

std::string place(const std::string& file, const toml::source_region& where) {
  return "'" + file + "' line " + std::to_string(where.begin.line) + ": ";
}

Status read_value(const std::string& file, const toml::node& node, const Rule& rule,
                  const std::string& shown_path, Slot slot) {
  return std::visit(ValueReader(file, node, rule, shown_path), slot);
}

}  // namespace updagent::config
