#include "agent/release/entry_rules.hpp"

#include <algorithm>

#include "agent/base/text.hpp"
#include "agent/release/describe.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Error;
using base::ok;
using base::Status;

constexpr std::uint16_t kPermissionBits = 0777;
constexpr std::uint16_t kOwnerRead = 0400;
constexpr std::uint16_t kOwnerReadSearch = 0500;

bool is_control(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7F;
}

// C1, U+0080 to U+009F: a terminal may take U+009B for the start of an escape sequence.
bool has_c1_control(std::string_view text) {
  const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(text[at]); };
  for (std::size_t i = 0; i + 1 < text.size(); ++i)
    if (byte(i) == 0xC2 && byte(i + 1) < 0xA0) return true;
  return false;
}

// What a terminal, a log line or a JSON string would show as something else.
std::string_view text_problem(std::string_view text) {
  if (std::any_of(text.begin(), text.end(), is_control)) return "a control byte";
  if (!base::is_valid_utf8(text)) return "bytes that are not UTF-8";
  if (has_c1_control(text)) return "a control character";
  return {};
}

Error path_error(std::string_view path, std::string expected, std::string_view got) {
  return Error(Code::path_unsafe, "the path " + in_quotes(path) + " is not portable")
      .expected(std::move(expected))
      .got(std::string(got));
}

Status check_component(std::string_view path, std::string_view component) {
  if (component.empty())
    return path_error(path, "components between single slashes", "an empty one");
  if (component == "." || component == "..")
    return path_error(path, "no '.' and no '..'", in_quotes(component));
  if (component.size() > kMaxComponentBytes)
    return path_error(path,
                      "components of at most " + std::to_string(kMaxComponentBytes) + " bytes",
                      std::to_string(component.size()));
  return ok();
}

Error mode_error(const EntryView& entry, std::string expected) {
  return Error(Code::mode_unsafe, "the mode of " + in_quotes(entry.path) + " is not allowed")
      .expected(std::move(expected))
      .got(mode_text(entry.mode));
}

Status check_mode(const EntryView& entry) {
  if ((entry.mode & ~kPermissionBits) != 0) return mode_error(entry, "permission bits 0777 alone");
  if (entry.type == EntryType::file && (entry.mode & kOwnerRead) == 0)
    return mode_error(entry, "a file that its owner can read (0400)");
  if (entry.type == EntryType::directory && (entry.mode & kOwnerReadSearch) != kOwnerReadSearch)
    return mode_error(entry, "a directory that its owner can read and search (0500)");
  if (entry.type == EntryType::symlink && entry.mode != kPermissionBits)
    return mode_error(entry, "0777 for a symlink");
  return ok();
}

Error link_error(const EntryView& entry, std::string expected, std::string got) {
  return Error(Code::link_unsafe, "the link " + in_quotes(entry.path) + " is not safe")
      .expected(std::move(expected))
      .got(std::move(got));
}

}  // namespace

std::string_view parent_of(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? std::string_view() : path.substr(0, slash);
}

std::string_view take_component(std::string_view& rest) {
  const std::size_t slash = rest.find('/');
  const std::string_view component = rest.substr(0, slash);
  rest.remove_prefix(slash == std::string_view::npos ? rest.size() : slash + 1);
  return component;
}

Status check_path(std::string_view path) {
  if (path.empty() || path.size() > kMaxPathBytes)
    return path_error(path, "1 to " + std::to_string(kMaxPathBytes) + " bytes",
                      std::to_string(path.size()));
  if (const auto problem = text_problem(path); !problem.empty())
    return path_error(path, "UTF-8 without control bytes", problem);
  if (path.front() == '/') return path_error(path, "a relative path", "a leading '/'");
  if (path.back() == '/') return path_error(path, "no '/' at the end", "one");
  std::size_t depth = 0;
  for (std::string_view rest = path; !rest.empty(); ++depth)
    if (auto status = check_component(path, take_component(rest)); !status) return status;
  if (depth > kMaxPathDepth)
    return path_error(path, "at most " + std::to_string(kMaxPathDepth) + " components",
                      std::to_string(depth));
  if (std::string_view rest = path; take_component(rest) == kReservedFolder)
    return path_error(path, "nothing in " + in_quotes(kReservedFolder),
                      "an entry of the release there");
  return ok();
}

Status check_attributes(const EntryView& entry) {
  UPD_TRY(check_mode(entry));
  if (entry.mtime < 0 || entry.mtime > kMaxTime)
    return Error(Code::manifest_invalid,
                 "the mtime of " + in_quotes(entry.path) + " is out of range")
        .expected("0 to " + std::to_string(kMaxTime))
        .got(std::to_string(entry.mtime));
  const bool is_link = entry.type == EntryType::symlink || entry.type == EntryType::hardlink;
  if (!is_link && !entry.link_target.empty())
    return Error(Code::manifest_invalid, in_quotes(entry.path) + " has a link target")
        .expected("none for a " + std::string(entry_type_name(entry.type)))
        .got(in_quotes(entry.link_target));
  if (entry.type != EntryType::file && (entry.size != 0 || entry.sha256 != base::Digest()))
    return Error(Code::manifest_invalid, in_quotes(entry.path) + " has a size or a digest")
        .expected("neither for a " + std::string(entry_type_name(entry.type)))
        .got(std::to_string(entry.size) + " bytes");
  return ok();
}

Status check_symlink_target(const EntryView& entry) {
  const std::string_view target = entry.link_target;
  if (target.empty() || target.size() > kMaxPathBytes)
    return link_error(entry, "a target of 1 to " + std::to_string(kMaxPathBytes) + " bytes",
                      std::to_string(target.size()));
  if (const auto problem = text_problem(target); !problem.empty())
    return link_error(entry, "a target in UTF-8 without control bytes", std::string(problem));
  if (target.front() == '/') return link_error(entry, "a relative target", in_quotes(target));
  auto depth = std::count(entry.path.begin(), entry.path.end(), '/');
  for (std::string_view rest = target; !rest.empty();) {
    const std::string_view component = take_component(rest);
    if (component == "..") --depth;
    if (depth < 0) return link_error(entry, "a target inside the release", in_quotes(target));
    if (!component.empty() && component != "." && component != "..") ++depth;
  }
  return ok();
}

}  // namespace updagent::release
