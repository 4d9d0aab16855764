#include "agent/release/pack_description.hpp"

#include <algorithm>
#include <array>

#include "agent/base/files.hpp"
#include "agent/base/strict_json.hpp"
#include "agent/release/describe.hpp"
#include "agent/release/spec.hpp"

namespace updagent::release {
namespace {

using base::Code;
using base::Error;

constexpr std::size_t kMaxPackageJsonBytes = 1024 * 1024;  // only read for a hint
constexpr const char* kSpecName = "updagent.toml";
constexpr const char* kNpmName = "package.json";

const InputEntry* find(const InputEntries& entries, std::string_view path) {
  const auto at = std::lower_bound(
      entries.begin(), entries.end(), path,
      [](const InputEntry& entry, std::string_view wanted) { return entry.path < wanted; });
  return at != entries.end() && at->path == path ? &*at : nullptr;
}

base::Result<std::string> read_small(PackInput& input, const InputEntries& entries,
                                     const InputEntry& named, std::size_t max_bytes) {
  const InputEntry* file = &named;
  if (named.type == EntryType::hardlink) file = find(entries, named.link_target);
  if (file == nullptr || file->type != EntryType::file || file->size > max_bytes)
    return Error(Code::usage, "cannot use '" + std::string(named.path) + "' of the input")
        .expected("a file of at most " + std::to_string(max_bytes) + " bytes")
        .got(file != nullptr && file->type == EntryType::file
                 ? std::to_string(file->size) + " bytes"
                 : "a " + std::string(entry_type_name(named.type)))
        .hint("name the description with --spec");
  std::string text;
  std::array<std::uint8_t, 4096> buffer{};
  UPD_TRY(read_content(input, *file, buffer, [&](std::span<const std::uint8_t> bytes) {
    text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return base::ok();
  }));
  return text;
}

struct NpmName {
  std::string app;
  std::string version;
};

std::optional<NpmName> read_npm_name(const std::string& package_json) {
  const auto json = base::parse_strict_json(package_json, Code::usage, kNpmName);
  if (!json || !json->is_object()) return std::nullopt;
  const auto string_of = [&](const char* key) {
    const auto at = json->find(key);
    return at != json->end() && at->is_string() ? at->get<std::string>() : std::string();
  };
  NpmName name{string_of("name"), string_of("version")};
  if (const std::size_t slash = name.app.find('/'); slash != std::string::npos)
    name.app.erase(0, slash + 1);  // "@scope/name"
  return name;
}

// An npm package knows its name and version. They are not taken unasked: the app's name on the node
// is for the packer to say. When they are all that is missing, the error offers them.
Error with_npm_hint(Error error, const PackRequest& request, const std::string& toml,
                    const std::string& toml_name, const std::string& package_json) {
  const auto npm = read_npm_name(package_json);
  if (!npm) return error;
  const SpecOverrides offered{request.app.value_or(npm->app),
                              request.version.value_or(npm->version)};
  if (!parse_spec(toml, toml_name, offered)) return error;
  std::string hint = "add";
  if (!request.app) hint += " --app " + npm->app;
  if (!request.version) hint += " --version " + npm->version;
  return std::move(error).hint(hint + " (as " + kNpmName + " of the input says)");
}

// A link on the way: where it leads is the node's to see.
bool passes_link(const EntryTable& entries, std::string_view path) {
  for (std::size_t slash = path.find('/'); slash != std::string_view::npos;
       slash = path.find('/', slash + 1)) {
    const auto found = entries.find(path.substr(0, slash));
    if (found && entries.at(*found).type == EntryType::symlink) return true;
  }
  return false;
}

void note_program(const EntryTable& entries, const Command& command, PackNotes& notes) {
  if (command.argv.empty()) return;
  std::string_view path = command.argv.front();
  while (path.starts_with("./")) path.remove_prefix(2);
  if (path.starts_with('/') || path.find('/') == std::string_view::npos) return;  // the node's
  if (passes_link(entries, path)) return;
  const auto found = entries.find(path);
  if (!found) return notes.add("the release does not hold this program of a hook or probe", path);
  const EntryView entry = entries.at(*found);
  constexpr std::uint16_t kOwnerExecute = 0100;
  const bool is_file = entry.type == EntryType::file || entry.type == EntryType::hardlink;
  if (entry.type == EntryType::directory || (is_file && (entry.mode & kOwnerExecute) == 0))
    notes.add("this program of a hook or probe is not executable", path);
}

}  // namespace

void note_missing_programs(const Manifest& manifest, PackNotes& notes) {
  const Hooks& hooks = manifest.hooks;
  for (const auto* hook :
       {&hooks.pre_upgrade, &hooks.post_switch, &hooks.post_commit, &hooks.post_rollback})
    if (*hook) note_program(manifest.entries, **hook, notes);
  for (const Probe& probe : manifest.probes) note_program(manifest.entries, probe.command, notes);
}

base::Result<Manifest> describe_release(const PackRequest& request, PackInput& input,
                                        const InputEntries& entries) {
  std::string toml;
  std::string name = kSpecName;
  if (request.spec_path) {
    name = *request.spec_path;
    auto read = base::read_file(name, kMaxSpecBytes);
    if (!read) return Error(Code::usage, read.error().line());
    toml = std::move(*read);
  } else if (const InputEntry* found = find(entries, kSpecName); found != nullptr) {
    UPD_ASSIGN(toml, read_small(input, entries, *found, kMaxSpecBytes));
  }
  auto parsed = parse_spec(toml, name, {request.app, request.version});
  if (parsed) return parsed;
  Error error = std::move(parsed).error();
  const InputEntry* npm = find(entries, kNpmName);
  const bool complete = request.app && request.version;
  if (error.code() != Code::usage || npm == nullptr || complete) return error;
  const auto package_json = read_small(input, entries, *npm, kMaxPackageJsonBytes);
  if (!package_json) return error;
  return with_npm_hint(std::move(error), request, toml, name, *package_json);
}

}  // namespace updagent::release
